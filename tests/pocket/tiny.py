"""The recipe of all stages, or of some, so small that it takes seconds."""

from dataclasses import replace
from pathlib import Path

from emu_video.pocket.recipe import (
    RECIPE,
    AnyStage,
    AutoencoderStage,
    ClipSet,
    DecoderStage,
    ImageStage,
    LargeClips,
    LayersStage,
    Recipe,
)
from emu_video.pocket.stages.run import Run

FEW = ("autoencoder", "text", "image", "video", "decoder", "interpolation")
FRAMES = 13  # of interpolation
SIDE = 64  # of clips for super-resolution


def tiny_recipe(steps: int = 3, names: tuple[str, ...] = FEW, **changes: AnyStage) -> Recipe:
    """Return a recipe of the named stages. A stage whose start is left out starts anew, or from the video layers."""
    stages = {name: tiny_stage(RECIPE.stages[name], steps, names) for name in names}
    return replace(RECIPE, shape=replace(RECIPE.shape, channels=32), stages={**stages, **changes})


def tiny_stage(made: AnyStage, steps: int, names: tuple[str, ...]) -> AnyStage:
    if isinstance(made, LayersStage):
        fewer = replace(
            made.stage, steps=steps, batch=2, clips_at_once=2, save_every=1, log_every=1, check_every=2, compile=False
        )
        if made.stage.role == "interpolation":
            fewer = replace(fewer, frames=FRAMES)
        start = made.start if made.start in (*names, "fresh") else "fresh" if made.stage.role == "video" else "video"
        return replace(made, clips=tuple(few(c, fewer.frames) for c in made.clips), stage=fewer, start=start)
    settings = replace(made.settings, iterations=steps, batch=6, save_every=1, log_every=1)
    if isinstance(made, AutoencoderStage):
        return replace(made, settings=settings, clips=few(made.clips), width=8)
    if isinstance(made, DecoderStage):
        return replace(made, settings=settings, clips=few(made.clips), steps=1)
    made = replace(made, settings=settings, pictures=tuple(replace(p, clips=few(p.clips)) for p in made.pictures))
    return replace(made, start=made.start if made.start in names else "text") if isinstance(made, ImageStage) else made


def few(clips: ClipSet, frames: int = 0) -> ClipSet:
    clips = replace(clips, count=4, frames=frames or clips.frames)
    return replace(clips, size=SIDE) if isinstance(clips, LargeClips) else clips


def tiny_run(folder: Path, **changes) -> Run:
    return Run(folder, tiny_recipe(**changes))
