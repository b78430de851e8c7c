"""Stage 4: the temporal layers, with the image model frozen: first frame and text to 8 frames."""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from ..diffusion.schedule import Schedule, x0_from_v
from ..temporal_layers.anchors import find_anchors
from ..temporal_layers.attach import attach
from ..temporal_layers.layers import TemporalLayers
from ..training.loop import Settings, train
from ..training.objective import Dropout, drop_conditioning, first_frames, sample_timesteps, v_error
from .denoiser import Denoiser
from .export import denoiser_weights
from .latents import latent_set
from .shipped import CHECKPOINT
from .text_encoder import pad_tokens
from .world import FRAMES

CONDITIONING_CHANNELS = 5  # first frame's latent and mask
PATCH = 4  # latents per side; the error of a patch's mean is a drifting background, which single latents hardly show
PATCH_WEIGHT = 5.0


def frozen_image_model(path: Path = CHECKPOINT) -> Denoiser:
    """The image model as it is shipped, rounded to half precision, never to change again."""
    model = Denoiser()
    model.load_state_dict(denoiser_weights(load_file(path)))
    return model.requires_grad_(False)


def new_layers(model: Denoiser, seed: int) -> TemporalLayers:
    """Fresh layers hung on the model's UNet."""
    layers = TemporalLayers(find_anchors(model.unet), CONDITIONING_CHANNELS)
    layers.load_state_dict(layers.fresh_state_dict(seed))
    layers.frames = FRAMES
    attach(model.unet, layers, owner=layers)
    return layers


def main(folder: Path, iterations: int, batch: int, rate: float, seed: int) -> None:
    torch.manual_seed(seed)
    clips = latent_set(folder, "clips", seed=13, count=6_000)
    model = frozen_image_model()
    layers = new_layers(model, seed)
    run = torch.compile(model)
    schedule = Schedule.from_betas(zero_terminal_snr=True)
    empty = torch.tensor(pad_tokens([]))

    def loss(step: int):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        x0, weight, tokens = clips.batch(generator, batch)
        no_text, nothing = drop_conditioning(batch, Dropout(), generator)
        tokens = torch.where(no_text[:, None], empty, tokens)
        with torch.no_grad():
            context, pooled = (z.repeat_interleave(FRAMES, 0) for z in model.encode(tokens))
        t = sample_timesteps(batch, len(schedule), generator)
        known = first_frames(x0, nothing)
        x0, times = x0.flatten(0, 1), t.repeat_interleave(FRAMES)
        error, v, noisy = v_error(
            lambda x, t: run(x, t, context, pooled),
            x0,
            times,
            schedule,
            generator,
            known.flatten(0, 1),
        )
        patches = F.avg_pool2d(x0_from_v(noisy, v, times, schedule) - x0, PATCH)
        error = (error.mean(1) * weight.flatten(0, 1)).mean((1, 2)).unflatten(0, (batch, FRAMES))
        high = t >= 900
        figures = {
            "error_high": error[high].mean().item() if high.any() else 0.0,
            "error_low": error[~high].mean().item(),
            "error_first": error[:, 0].mean().item(),
            "error_patches": patches.square().mean().item(),
        }
        return error.mean() + PATCH_WEIGHT * patches.square().mean(), figures

    averaged = train({"layers": layers}, loss, Settings(iterations, rate), folder, "video")
    torch.save(averaged["layers"], folder / "video_average.pt")
