"""Training of temporal layers on the frozen image model: what the stages of videos and of interpolation share."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from ...diffusion.schedule import Schedule, x0_from_v
from ...temporal_layers.attach import attach
from ...temporal_layers.backbones import find_anchors
from ...temporal_layers.layers import TemporalLayers
from ...training.loop import Settings, train
from ...training.objective import Dropout, drop_conditioning, sample_timesteps, v_error
from ..model.checkpoint import denoiser_weights
from ..model.denoiser import Denoiser
from ..model.text_encoder import pad_tokens
from ..shipped import CHECKPOINT
from .latents import LatentSet

CONDITIONING_CHANNELS = 5  # known frames' latents and mask
PATCH = 4  # latents per side; the error of a patch's mean is a drifting background, which single latents hardly show
PATCH_WEIGHT = 10.0

Arrange = Callable[[Tensor, Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor, Tensor]]
"""(clips x0 [clips, frames, c, h, w], loss weights [clips, frames, h, w], bool [clips] of those that are given nothing,
generator) -> clips and weights as they are to be learned, known frames and mask [clips, frames, c + 1, h, w]."""


def frozen_image_model(path: Path = CHECKPOINT) -> Denoiser:
    """The image model as it is shipped, rounded to half precision, never to change again."""
    model = Denoiser()
    model.load_state_dict(denoiser_weights(load_file(path)))
    return model.requires_grad_(False)


def new_layers(model: Denoiser, frames: int, seed: int) -> TemporalLayers:
    """Fresh layers for clips of `frames`, hung on the model's UNet."""
    layers = TemporalLayers(find_anchors(model.unet), CONDITIONING_CHANNELS)
    layers.load_state_dict(layers.fresh_state_dict(seed))
    layers.frames = frames
    attach(model.unet, layers, owner=layers)
    return layers


def train_layers(
    folder: Path,
    name: str,
    clips: LatentSet,
    model: Denoiser,
    layers: TemporalLayers,
    positions: Sequence[int],
    arrange: Arrange,
    settings: Settings,
    batch: int,
    seed: int,
) -> None:
    """Trains `layers`, writes `folder`/`name`.pt and csv on the way and `name`_average.pt at the end.

    positions: frames that are always given; the log has their error.
    """
    run = torch.compile(model)
    schedule = Schedule.from_betas(zero_terminal_snr=True)
    empty = torch.tensor(pad_tokens([]))
    frames = layers.frames
    given = torch.zeros(frames, dtype=torch.bool)
    given[list(positions)] = True

    def loss(step: int, _: range):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        x0, weight, tokens = clips.batch(generator, batch)
        no_text, nothing = drop_conditioning(batch, Dropout(), generator)
        tokens = torch.where(no_text[:, None], empty, tokens)
        with torch.no_grad():
            context, pooled = (z.repeat_interleave(frames, 0) for z in model.encode(tokens))
        t = sample_timesteps(batch, len(schedule), generator)
        x0, weight, conditioning = (z.flatten(0, 1) for z in arrange(x0, weight, nothing, generator))
        times = t.repeat_interleave(frames)
        error, v, noisy = v_error(lambda x, t: run(x, t, context, pooled), x0, times, schedule, generator, conditioning)
        patches = F.avg_pool2d(x0_from_v(noisy, v, times, schedule) - x0, PATCH).square().mean()
        error = (error.mean(1) * weight).mean((1, 2)).unflatten(0, (batch, frames))
        high = t >= 900
        figures = {
            "error_high": error[high].mean().item() if high.any() else 0.0,
            "error_low": error[~high].mean().item(),
            "error_given": error[:, given].mean().item(),
            "error_patches": patches.item(),
        }
        return error.mean() + PATCH_WEIGHT * patches, figures

    result = train({"layers": layers}, loss, settings, folder, name)
    torch.save(result.average["layers"], folder / f"{name}_average.pt")
