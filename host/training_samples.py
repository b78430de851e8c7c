"""Sample videos of a training run as files: a contact sheet and a video for each checkpoint."""

from __future__ import annotations

import logging
from pathlib import Path

import comfy.model_patcher
import comfy.sd
import torch
from comfy_api.latest import InputImpl, Types
from einops import rearrange
from torch import Tensor

from ..training.log import save_picture
from ..training.samples import Samples


def decode(model: comfy.model_patcher.ModelPatcher, vae: comfy.sd.VAE | None, latents: Tensor) -> Tensor:
    """Decode latents [n, T, C, h, w] to frames [n, T, H, W, 3] in 0..1, by the VAE or as ComfyUI's small preview."""
    latent_format = model.model.latent_format
    videos, frames = latents.shape[:2]
    flat = latents.flatten(0, 1)
    with torch.inference_mode():
        if vae is not None:
            pictures = vae.decode(latent_format.process_out(flat))[..., :3].cpu()
        else:
            factors = torch.tensor(latent_format.latent_rgb_factors)
            bias = torch.tensor(latent_format.latent_rgb_factors_bias or [0.0, 0.0, 0.0])
            pictures = ((flat.movedim(1, -1) @ factors + bias + 1) / 2).clamp(0, 1)
    return pictures.unflatten(0, (videos, frames)).clone()


def save_samples(folder: Path, frames: Tensor, samples: Samples, fps: float) -> Tensor:
    """Write NAME-STEP.png (a row for each video) and NAME-STEP.mp4 (the videos side by side).

    frames: [n, T, H, W, 3] in 0..1. Returns the contact sheet as IMAGE [1, n * H, T * W, 3].
    """
    path = folder / "samples" / f"{samples.stage}-{samples.step:06}"
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet = rearrange(frames, "n t h w c -> (n h) (t w) c")
    save_picture(path.with_name(f"{path.name}.png"), (sheet * 255).round().byte().numpy())
    side_by_side = rearrange(frames, "n t h w c -> t h (n w) c")
    height, width = (size // 2 * 2 for size in side_by_side.shape[1:3])  # H.264 needs even sizes
    video = InputImpl.VideoFromComponents(
        Types.VideoComponents(images=side_by_side[:, :height, :width], frame_rate=_rate(fps))
    )
    video.save_to(str(path.with_name(f"{path.name}.mp4")))
    path.with_name(f"{path.name}.txt").write_text("\n".join(samples.captions) + "\n", "utf-8")
    logging.info("Emu Video: samples of step %d are in %s.", samples.step, path.parent)
    return sheet[None]


def _rate(fps: float):
    from fractions import Fraction

    return Fraction(fps).limit_denominator(1000)
