"""Quick checks between stages, outside ComfyUI: is a model good enough for the next stage?

`python run.py pocket gates autoencoder`, `image`, `starts` or `video` prints accuracies; all except the first write a
contact sheet. `starts` checks first frames made from the captions of videos. `circles` prints how round circles are.
`shapes` prints the shape error of pictures that are denoised from several noise levels, which shows at which noise the
image model bends shapes. `words` prints, for both steps, the denoising error with the right caption and with one word
replaced: if the error does not rise, the model ignores this word. The unfinished run in `--folder` is checked, or
the shipped weights if there is none.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...diffusion.guidance import emu_guidance
from ...diffusion.sampler import ddim
from ...diffusion.schedule import Schedule, add_noise
from ...evaluation.metrics.fidelity import psnr
from ...evaluation.pictures import write_sheet
from ...temporal_layers.files import load_layers
from ...training.known_frames import first_frames
from ...training.objective import v_error
from ..model.autoencoder import Autoencoder
from ..model.checkpoint import frozen_autoencoder
from ..model.denoiser import Denoiser
from ..model.text_encoder import tokens_of
from ..recipe import RECIPE, ClipSet
from ..shipped import CHECKPOINT, VIDEO_LAYERS
from ..stages import layers
from ..stages.clips import latent_clips
from ..stages.run import FOLDER, Run
from ..world import FRAMES, Scenes, render_clips, sample_clips
from ..world.background import spread
from ..world.reader import read_clip
from ..world.roundness import shape_error
from ..world.vocabulary import COLOURS, MOTIONS, OPPOSITES, PLACES, SHAPES
from .text_to_video import prompts

LEVELS = (100, 300, 500, 700, 999)
LARGE = 0.14  # radius of a shape, of the frame: errors of smaller ones are hard to measure
SCHEDULE = Schedule.from_betas(zero_terminal_snr=True)
CHECK = ClipSet(seed=77, count=256)


def run_with(folder: Path, stage: str) -> Run:
    """Return the run in `folder` if it has begun the stage, otherwise a run with the shipped image model."""
    run = Run(folder, RECIPE)
    return run if run.has_begun(stage) else Run(folder, RECIPE, CHECKPOINT)


def autoencoder(run: Run) -> Autoencoder:
    """Return the run's autoencoder with its last decoder, or at its last checkpoint."""
    for stage in ("decoder", "autoencoder"):
        if run.is_done(stage):
            return run.autoencoder(stage)
    return frozen_autoencoder(run.so_far("autoencoder", "autoencoder"))


def image_model(run: Run) -> Denoiser:
    """Return the run's image model at its last checkpoint."""
    if run.is_done("image"):
        return run.image_model()
    model = Denoiser(run.recipe.shape)
    model.load_state_dict(run.so_far("image", "model"))
    return model


def video_model(run: Run) -> Denoiser:
    """Return the image model with the run's video layers at their last checkpoint, or with the shipped layers."""
    weights = run.so_far("video", "layers") if run.has_begun("video") else load_layers(VIDEO_LAYERS)[0]
    weights = {key: tensor.float() for key, tensor in weights.items()}
    return layers.video_model(run.image_model(), run.recipe.base, weights)


@torch.no_grad()
def pictures_from_text(
    model: Denoiser, captions: list[str], steps: int, scale: float, *, seed: int, eta: float = 0.0
) -> Tensor:
    """Sample latents [n, C, 16, 16] from captions."""
    denoise = picture_denoiser(model, captions, scale)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(captions), model.unet.shape.latent_channels, 16, 16, generator=generator)
    return ddim(denoise, noise, SCHEDULE, SCHEDULE.trailing_timesteps(steps), eta=eta, generator=generator)


def picture_denoiser(model: Denoiser, captions: list[str], scale: float) -> Callable[[Tensor, int], Tensor]:
    """Return the prediction of the image model for noisy latents [n, C, h, w], with guidance `scale` to captions."""
    text, null = (model.encode(tokens_of(c)) for c in (captions, [""] * len(captions)))
    context, pooled = (torch.cat(pair) for pair in zip(text, null, strict=True))

    def denoise(x: Tensor, t: int) -> Tensor:
        times = torch.full((2 * len(x),), t)
        full, empty = model(torch.cat([x, x]), times, context, pooled).float().chunk(2)
        return empty + scale * (full - empty)

    return denoise


@torch.no_grad()
def videos_from_first(
    model: Denoiser, first: Tensor, captions: list[str], *, steps: int, text: float, image: float, seed: int
) -> Tensor:
    """Sample latents [n, 8, C, 16, 16] from first-frame latents [n, C, 16, 16] and captions."""
    count = len(captions)
    encoded, null = (model.encode(tokens_of(c)) for c in (captions, [""] * count))
    context, pooled = (torch.cat([f, n, n]).repeat_interleave(FRAMES, 0) for f, n in zip(encoded, null, strict=True))
    x0 = torch.zeros(count, FRAMES, *first.shape[1:])
    x0[:, 0] = first
    kept = first_frames(x0, torch.zeros(count, dtype=torch.bool)).flatten(0, 1)
    known = torch.cat([kept, kept, torch.zeros_like(kept)])

    def denoise(x: Tensor, t: int) -> Tensor:
        inputs = torch.cat([torch.cat([x, x, x]), known], 1)
        full, pictured, nothing = model(inputs, torch.full((len(inputs),), t), context, pooled).float().chunk(3)
        return emu_guidance(nothing, pictured, full, image, text)

    noise = torch.randn(count * FRAMES, *first.shape[1:], generator=torch.Generator().manual_seed(seed))
    return ddim(denoise, noise, SCHEDULE, SCHEDULE.trailing_timesteps(steps)).unflatten(0, (count, FRAMES))


@torch.no_grad()
def encode(run: Run, pictures: Tensor) -> Tensor:
    """Encode pictures, uint8 [n, 3, 8h, 8w], to latents [n, C, h, w]."""
    model = autoencoder(run)
    return torch.cat([model.encode(part.float() / 255) for part in pictures.split(64)])


@torch.no_grad()
def decode(run: Run, latents: Tensor) -> np.ndarray:
    """Decode latents [n, C, h, w] to pictures, uint8 [n, 8h, 8w, 3]."""
    return autoencoder(run).pictures(latents)


def sheet(path: Path, rows: list[np.ndarray]) -> None:
    write_sheet(path, [np.concatenate(list(row), 1) for row in rows])


def single_shapes() -> list[int]:
    """Return the clips of the check that show one shape in steady light."""
    clips = sample_clips(CHECK.seed, CHECK.count)
    return [i for i, c in enumerate(clips) if len(c.bodies) == 1 and c.light[0] == c.light[-1]]


@torch.no_grad()
def autoencoder_gate(run: Run, count: int) -> None:
    clips = sample_clips(CHECK.seed, CHECK.count)
    steady = [clips[i] for i in single_shapes()[:count]]
    dimmed = sample_clips(CHECK.seed, len(steady), scenes=Scenes(pairs=0.0, dimming=1.0))
    for title, chosen in (("steady light", steady), ("changing light", dimmed)):
        pictures = render_clips(chosen)[0].flatten(0, 1)
        decoded = decode(run, encode(run, pictures)).reshape(len(chosen), FRAMES, *pictures.shape[2:], 3)
        truth = pictures.movedim(1, -1).numpy().reshape(decoded.shape)
        shapes = [read_clip(v).majority("shape") == c.bodies[0].shape for v, c in zip(decoded, chosen, strict=True)]
        figures = {
            "psnr": np.mean([psnr(one, other) for one, other in zip(decoded, truth, strict=True)]),
            "shape": np.mean(shapes),
            "spread": np.median([spread(frame) for video in decoded for frame in video]),
        }
        print(title, {k: round(float(v), 3) for k, v in figures.items()} | {"clips": len(chosen)}, flush=True)


def image_gate(run: Run, steps: int, scale: float, count: int) -> None:
    model = image_model(run)
    rng = np.random.default_rng(99)
    wanted = [
        (str(rng.choice(list(COLOURS))), str(rng.choice(SHAPES)), str(rng.choice(list(PLACES)))) for _ in range(count)
    ]
    grounds = [str(rng.choice([b for b in ("white", "grey", "blue", "black") if b != c])) for c, _, _ in wanted]
    captions = [f"a {c} {s} {p} on a {b} background" for (c, s, p), b in zip(wanted, grounds, strict=True)]
    pictures = decode(run, pictures_from_text(model, captions, steps, scale, seed=5))
    hits = {"colour": 0, "shape": 0, "place": 0, "present": 0}
    for (colour, shape, place), picture in zip(wanted, pictures, strict=True):
        sight = read_clip(picture[None]).sights[0]
        if sight is None:
            continue
        spot = tuple(0.0 if v < 0.42 else 1.0 if v > 0.58 else 0.5 for v in (sight.x, sight.y))
        hits["present"] += 1
        hits["colour"] += sight.colour == colour
        hits["shape"] += sight.shape == shape
        hits["place"] += spot == PLACES[place]
    print({k: round(v / count, 3) for k, v in hits.items()})
    sheet(run.folder / "image.png", [pictures[i : i + 8] for i in range(0, min(count, 48), 8)])


def starts_gate(run: Run, steps: int, scale: float, count: int) -> None:
    chosen = prompts(CHECK.seed, count)
    pictures = decode(run, pictures_from_text(image_model(run), [p["text"] for p in chosen], steps, scale, seed=6))
    sights = [read_clip(picture[None]).sights[0] for picture in pictures]
    for motion in MOTIONS:
        members = [(p, s) for p, s in zip(chosen, sights, strict=True) if p["motion"] == motion]
        right = sum(s is not None and s.shape == p["shape"] for p, s in members)
        print(f"{motion}: shape right in {right} of {len(members)}")
    order = sorted(range(count), key=lambda i: MOTIONS.index(chosen[i]["motion"]))
    sheet(run.folder / "starts.png", [pictures[order[i : i + 12]] for i in range(0, count // 12 * 12, 12)])


def circles_gate(run: Run, steps: int, scale: float, count: int) -> None:
    model, rng = image_model(run), np.random.default_rng(99)
    bright = ("red", "blue", "yellow", "orange", "purple", "green")
    captions = [f"a {rng.choice(bright)} circle on a {rng.choice(('white', 'black'))} background" for _ in range(count)]
    for eta, sampler in ((0.0, "DDIM"), (1.0, "DDPM")):
        pictures = decode(run, pictures_from_text(model, captions, steps, scale, seed=5, eta=eta))
        errors = [shape_error(picture, ("circle",)) for picture in pictures]
        print(f"{sampler}, {steps} steps: {np.nanmedian(errors):.1%} of the area, median of {count}", flush=True)
        sheet(run.folder / f"circles_{sampler}.png", [pictures[i : i + 8] for i in range(0, min(count, 48), 8)])


@torch.no_grad()
def shapes_gate(run: Run, steps: int, scale: float, count: int) -> None:
    """Print the shape error of true first frames, with noise of each of LEVELS and `steps` steps of DDIM back."""
    clips = sample_clips(CHECK.seed, CHECK.count)
    chosen = [clips[i] for i in single_shapes() if clips[i].bodies[0].radius[0] > LARGE][:count]
    x0 = encode(run, render_clips(chosen)[0][:, 0])
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(7))
    denoise = picture_denoiser(image_model(run), [clip.caption for clip in chosen], scale)

    def error(latents: Tensor) -> str:
        return f"{np.nanmedian([shape_error(picture) for picture in decode(run, latents)]):.1%}"

    print(f"autoencoder alone: {error(x0)} of the area, median of {len(chosen)} pictures")
    for level in LEVELS:
        noisy = add_noise(x0, noise, torch.full((len(x0),), level), SCHEDULE)
        times = np.linspace(level, 0, steps, endpoint=False).round().astype(int).tolist()
        print(f"noise of timestep {level}: {error(ddim(denoise, noisy, SCHEDULE, times))}", flush=True)


def video_gate(run: Run, steps: int, text: float, image: float, count: int) -> None:
    model = video_model(run)
    data = latent_clips(run, CHECK)
    clips = sample_clips(CHECK.seed, CHECK.count)
    plain = single_shapes()[:count]
    captions = [clips[i].caption for i in plain]
    starts = data.latents[plain, 0].float()
    latents = videos_from_first(model, starts, captions, steps=steps, text=text, image=image, seed=6)
    videos = decode(run, latents.flatten(0, 1))
    videos = videos.reshape(len(plain), FRAMES, *videos.shape[1:])
    hits = {"motion": 0, "colour": 0, "shape": 0, "same": 0, "present": 0, "drift": 0.0}
    for i, video in zip(plain, videos, strict=True):
        body, reading = clips[i].bodies[0], read_clip(video)
        hits["present"] += reading.present
        hits["drift"] += reading.drift
        hits["motion"] += reading.motion == body.motion
        hits["colour"] += reading.majority("colour") == body.colour
        hits["shape"] += reading.majority("shape") == body.shape
        first, last = reading.sights[0], reading.sights[-1]
        hits["same"] += bool(first and last and first.shape == last.shape)
        if reading.motion != body.motion:
            print(clips[i].caption, "->", reading.motion)
    print({k: round(v / len(plain), 3) for k, v in hits.items()})
    sheet(run.folder / "video.png", list(videos[:14]))


def other_word(caption: str, kind: str) -> str | None:
    """Return the caption with its shape or its motion replaced, or None if it has no such word."""
    cycle = dict(zip(SHAPES, (*SHAPES[1:], SHAPES[0]), strict=True))
    swaps = cycle if kind == "shape" else OPPOSITES | {"spinning": "bouncing", "bouncing": "spinning"}
    return next((caption.replace(word, other) for word, other in swaps.items() if word in caption), None)


@torch.no_grad()
def errors(model: Denoiser, x0: Tensor, weight: Tensor, captions: list[str], t: int) -> Tensor:
    """Return the denoising errors [n] of latents [n, frames, C, 16, 16] with their captions and the first frame
    known."""
    count, frames = x0.shape[:2]
    context, pooled = (z.repeat_interleave(frames, 0) for z in model.encode(tokens_of(captions)))
    known = first_frames(x0, torch.zeros(count, dtype=torch.bool)).flatten(0, 1) if frames > 1 else None
    error, _, _ = v_error(
        lambda x, t: model(x, t, context, pooled),
        x0.flatten(0, 1),
        torch.full((count * frames,), t),
        SCHEDULE,
        torch.Generator().manual_seed(t),
        known=known,
    )
    return (error.mean(1) * weight.flatten(0, 1)).unflatten(0, (count, frames)).mean((1, 2, 3))


def words_gate(run: Run, count: int) -> None:
    data = latent_clips(run, CHECK)
    clips = sample_clips(CHECK.seed, CHECK.count)
    for step, model, frames in (("image", run.image_model(), 1), ("video", video_model(run), FRAMES)):
        for kind in ("shape", "motion"):
            replaced = {i: other_word(c.caption, kind) for i, c in enumerate(clips) if len(c.bodies) == 1}
            wrong = {i: caption for i, caption in replaced.items() if caption}
            index = list(wrong)[:count]
            x0, weight = data.latents[index, :frames].float(), 1 + 4 * data.near[index, :frames].float()
            for t in (999, 900, 700, 500):
                said = errors(model, x0, weight, [clips[i].caption for i in index], t)
                other = errors(model, x0, weight, [wrong[i] for i in index], t)
                print(
                    f"{step}  {kind:6}  t = {t}: right {said.mean():.4f}  replaced {other.mean():.4f}"
                    f"  right is better in {(said < other).float().mean():.0%} of {len(index)}",
                    flush=True,
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=("autoencoder", "image", "starts", "circles", "shapes", "video", "words"))
    parser.add_argument("--folder", type=Path, default=FOLDER, help="unfinished work")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--text", type=float, default=4.0)
    parser.add_argument("--image", type=float, default=1.5)
    parser.add_argument("--count", type=int, default=64)
    options = parser.parse_args()
    stage = {"autoencoder": "autoencoder", "video": "video", "words": "video"}.get(options.stage, "image")
    run = run_with(options.folder, stage)
    if options.stage == "autoencoder":
        autoencoder_gate(run, options.count)
    elif options.stage == "image":
        image_gate(run, options.steps, options.text, options.count)
    elif options.stage == "starts":
        starts_gate(run, options.steps, options.text, options.count)
    elif options.stage == "circles":
        circles_gate(run, options.steps, options.text, options.count)
    elif options.stage == "shapes":
        shapes_gate(run, options.steps, options.text, options.count)
    elif options.stage == "video":
        video_gate(run, options.steps, options.text, options.image, options.count)
    else:
        words_gate(run, options.count)
