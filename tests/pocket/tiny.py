"""A recipe of all stages that takes seconds."""

from dataclasses import replace
from pathlib import Path

from emu_video.pocket.recipe import FIRST, ClipSet, Recipe
from emu_video.pocket.stages.run import Run


def tiny_recipe(steps: int = 3, of: Recipe = FIRST, **changes) -> Recipe:
    def few(clips: ClipSet) -> ClipSet:
        return replace(clips, count=4)

    def short(stage, batch: int):
        settings = replace(stage.settings, iterations=steps, batch=batch, save_every=1, log_every=1)
        return replace(stage, settings=settings)

    def layers(made, batch: int):
        stage = replace(
            made.stage, steps=steps, batch=batch, clips_at_once=batch, save_every=1, log_every=1, check_every=2
        )
        return replace(made, clips=tuple(few(c) for c in made.clips), stage=replace(stage, compile=False))

    def shorter(made, frames: int):
        clips = tuple(replace(c, frames=frames) for c in made.clips)
        return replace(made, clips=clips, stage=replace(made.stage, frames=frames))

    large = of.super_resolution and replace(
        layers(of.super_resolution, 2),
        clips=tuple(replace(few(c), size=64) for c in of.super_resolution.clips),  # pyright: ignore[reportCallIssue]
    )
    pictures = tuple(replace(p, clips=few(p.clips)) for p in of.image.pictures)
    recipe = replace(
        of,
        shape=replace(of.shape, channels=32),
        autoencoder=replace(short(of.autoencoder, 2), width=8),
        text=replace(short(of.text, 4), pictures=pictures[:2]),
        image=replace(short(of.image, 6), pictures=pictures),
        pretraining=of.pretraining and layers(of.pretraining, 2),
        video=layers(of.video, 2),
        interpolation=shorter(layers(of.interpolation, 1), 13),
        super_resolution=large,
    )
    return replace(recipe, **changes)


def tiny_run(folder: Path, **changes) -> Run:
    return Run(folder, tiny_recipe(**changes))
