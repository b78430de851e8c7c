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
from .clips import step_generator
from .crops import Frames, edge_weights, picture_error
from .run import Run

COLOURS = 3  # latent channels that hold the small picture
REACH = 0.25  # largest distance between the middles of a crop and of a shape, in units of the frame


def make(run: Run, name: str, **options) -> None:
    """Train the stage and save its result. options: see `training.loop.train`."""
    stage = run.stage(name, AutoencoderStage)
    frames = Frames.of(stage.clips, run.device)
    torch.manual_seed(stage.seed)
    model = Autoencoder(stage.width, stage.latent_channels)
    model.to(run.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def loss(step: int, positions: range) -> tuple[Tensor, dict[str, float]]:
        generator = step_generator(stage.seed, step, run.device)
        reach = torch.full((len(positions),), REACH, device=run.device)
        crops = frames.draw(len(positions), stage.crop, reach, generator)
        pictures = (crops.cut(frames.pictures).float() / 255).contiguous(memory_format=torch.channels_last)
        with torch.autocast(run.device.type, torch.bfloat16):
            latents = model.encode(pictures)
            noise = torch.randn(latents.shape, generator=generator, device=run.device)
            decoded = model.decode(latents.float() + stage.latent_noise * noise)
        error = decoded.float() - pictures
        colours, detail = latents.float().tensor_split((COLOURS,), 1)
        plain = stage.colour_scale * (F.avg_pool2d(pictures, 8) * 2 - 1)
        spread = detail.mean((0, 2, 3)).square() + detail.std((0, 2, 3)).log().square()
        weight = edge_weights(crops.cut(frames.covered[:, :, None]).float())
        value = picture_error(error, weight) + (colours - plain).square().mean() + 0.02 * spread.mean()
        psnr = -10 * error.square().mean().log10()
        return value, {"psnr": psnr.item(), "detail_std": detail.std().item()}

    result = train({"autoencoder": model}, loss, stage.settings, run.folder, run.name(name), **options)
    if not result.stopped:
        run.save(name, result.average["autoencoder"])
