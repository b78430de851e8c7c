"""The first stages: the autoencoder, on crops around the shapes, since all detail is at their edges.

A loss keeps three latent channels close to the colours of the downscaled picture; the others are free. Without it
similar latents have different colours, so small errors of the diffusion model change colours.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...training.loop import train
from ..model.autoencoder import Autoencoder
from ..recipe import AutoencoderStage
from ..world import TIMES, Scenes, render_clips, sample_clips
from .run import Run

COLOURS = 3  # latent channels that hold the small picture


def crops(seed: int, count: int, side: int, scenes: Scenes) -> tuple[Tensor, Tensor]:
    """Return pictures [count, 3, side, side] in 0..1 that show a shape, and loss weights [count, 1, side, side]."""
    times = np.random.default_rng(seed).uniform(TIMES[0], TIMES[-1], 2)
    pictures, covered = render_clips(clips := sample_clips(seed, count, times, scenes))
    generator = torch.Generator().manual_seed(seed)
    which = torch.randint(0, 2, (count,), generator=generator)
    jitter = torch.rand(count, 2, generator=generator) * 0.5 - 0.25
    size = pictures.shape[-1]
    chosen, alpha = [], []
    for i, clip in enumerate(clips):
        frame = int(which[i])
        body = clip.bodies[i % len(clip.bodies)]
        left = int(min(max((body.x[frame] + jitter[i, 0]) * size - side / 2, 0), size - side))
        top = int(min(max((body.y[frame] + jitter[i, 1]) * size - side / 2, 0), size - side))
        window = (slice(top, top + side), slice(left, left + side))
        chosen.append(pictures[i, frame][(slice(None), *window)])
        alpha.append(covered[i, frame][window])
    inside = F.max_pool2d(torch.stack(alpha)[:, None], 9, 1, 4)
    core = -F.max_pool2d(-torch.stack(alpha)[:, None], 9, 1, 4)
    # 1 on the background, 3 on shapes, 7 at their edges.
    return torch.stack(chosen).float() / 255, 1 + 2 * inside + 4 * (inside - core)


def make(run: Run, name: str, **options) -> None:
    """Train the stage and save its result. options: see `training.loop.train`."""
    stage = run.stage(name, AutoencoderStage)
    torch.manual_seed(stage.seed)
    model = Autoencoder(stage.width, stage.latent_channels)
    if stage.start != "fresh":
        model.load_state_dict(run.load(stage.start))
        model.taesd_encoder.requires_grad_(False)
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    least, most = map(torch.tensor, stage.latent_noise)

    def loss(step: int, positions: range) -> tuple[Tensor, dict[str, float]]:
        seed = stage.seed * 1_000_003 + step
        pictures, weight = crops(seed, len(positions), stage.crop, stage.scenes)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            latents = model.encode(pictures)
            generator = torch.Generator().manual_seed(seed)
            noise = torch.randn(latents.shape, generator=generator)
            share = torch.rand(len(latents), 1, 1, 1, generator=generator)
            decoded = model.decode(latents.float() + torch.lerp(least, most, share) * noise)
        error = decoded.float() - pictures
        colours, detail = latents.float().tensor_split((COLOURS,), 1)
        plain = stage.colour_scale * (F.avg_pool2d(pictures, 8) * 2 - 1)
        spread = detail.mean((0, 2, 3)).square() + detail.std((0, 2, 3)).log().square()
        value = (weight * (error.abs() + 4 * error.square())).mean()
        value = value + (colours - plain).square().mean() + 0.02 * spread.mean()
        psnr = -10 * error.square().mean().log10()
        return value, {"psnr": psnr.item(), "detail_std": detail.std().item()}

    result = train({"autoencoder": model}, loss, stage.settings, run.folder, run.name(name), **options)
    if not result.stopped:
        run.save(name, result.average["autoencoder"])
