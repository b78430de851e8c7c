"""Stage 1: the autoencoder, on crops around the shapes, since all detail is at their edges.

A loss keeps three latent channels close to the colours of the downscaled picture; the others are free. Without it
similar latents have different colours, so small errors of the diffusion model change colours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...training.loop import train
from ..model.autoencoder import Autoencoder
from ..recipe import AutoencoderStage
from ..world import SIZE, TIMES, Clip, render_clips, sample_clips
from .run import Run

COLOURS = 3  # latent channels that hold the small picture
Window = tuple[slice, slice]


def crops(seed: int, count: int, side: int) -> tuple[Tensor, Tensor]:
    """Return pictures [count, 3, side, side] in 0..1 that show a shape, and loss weights [count, 1, side, side]."""
    clips = sample_clips(seed, count, times=TIMES[[0, -1]])
    pictures, covered = render_clips(clips)
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 2, (count,), generator=generator).tolist()
    shifts = (torch.rand(count, 2, generator=generator) * 0.5 - 0.25).tolist()
    windows = [window(clip, i, frames[i], shifts[i], side) for i, clip in enumerate(clips)]
    shown = [pictures[i, frames[i]][(slice(None), *at)] for i, at in enumerate(windows)]
    alpha = [covered[i, frames[i]][at] for i, at in enumerate(windows)]
    return torch.stack(shown).float() / 255, edge_weights(torch.stack(alpha))


def window(clip: Clip, which: int, frame: int, shift: list[float], side: int, *, grid: int = 1) -> Window:
    """Return rows and columns of a window of `side` pixels inside the frame, around a shape.

    which: number of the shape, counted round. shift: across and down, in units of the frame. grid: the window starts
    at multiples of it.
    """
    body = clip.bodies[which % len(clip.bodies)]
    corner = ((centre[frame] + moved) * SIZE - side / 2 for centre, moved in zip((body.x, body.y), shift, strict=True))
    left, top = (int(min(max(start, 0), SIZE - side)) // grid * grid for start in corner)
    return slice(top, top + side), slice(left, left + side)


def edge_weights(covered: Tensor) -> Tensor:
    """Return loss weights [n, 1, h, w] from the coverage [n, h, w]: 1 on the background, 3 on shapes, 7 at edges."""
    inside = F.max_pool2d(covered[:, None], 9, 1, 4)
    core = -F.max_pool2d(-covered[:, None], 9, 1, 4)
    return 1 + 2 * inside + 4 * (inside - core)


def picture_error(error: Tensor, weight: Tensor) -> Tensor:
    """Return the mean loss of decoded pictures with this difference from the true ones."""
    return (weight * (error.abs() + 4 * error.square())).mean()


def make(run: Run, name: str, **options) -> None:
    """Train the stage and save its result. options: see `training.loop.train`."""
    stage = run.stage(name, AutoencoderStage)
    torch.manual_seed(stage.seed)
    model = Autoencoder(stage.width, stage.latent_channels)
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def loss(step: int, positions: range) -> tuple[Tensor, dict[str, float]]:
        seed = stage.seed * 1_000_003 + step
        pictures, weight = crops(seed, len(positions), stage.crop)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            latents = model.encode(pictures)
            noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed))
            decoded = model.decode(latents.float() + stage.latent_noise * noise)
        error = decoded.float() - pictures
        colours, detail = latents.float().tensor_split((COLOURS,), 1)
        plain = stage.colour_scale * (F.avg_pool2d(pictures, 8) * 2 - 1)
        spread = detail.mean((0, 2, 3)).square() + detail.std((0, 2, 3)).log().square()
        value = picture_error(error, weight) + (colours - plain).square().mean() + 0.02 * spread.mean()
        psnr = -10 * error.square().mean().log10()
        return value, {"psnr": psnr.item(), "detail_std": detail.std().item()}

    result = train({"autoencoder": model}, loss, stage.settings, run.folder, run.name(name), **options)
    if not result.stopped:
        run.save(name, result.average["autoencoder"])
