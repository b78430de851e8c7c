"""The layout of the checkpoint file: which keys hold the UNet, the text encoder and the autoencoder."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from .autoencoder import Autoencoder

SIGNATURE = "emu_video_pocket"
"""The key behind the UNet's prefix that identifies the file. Its tensor holds the preview colours of the latents."""
UNET, TEXT, AUTOENCODER = "model.diffusion_model.", "cond_stage_model.transformer.", "first_stage_model."
VOCABULARY = "cond_stage_model.vocabulary"
DENOISER = {"unet": UNET, "text": TEXT}
"""Part of a Denoiser -> prefix in the file."""


def part(checkpoint: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors below `prefix` in float32, without the prefix."""
    return {key.removeprefix(prefix): tensor.float() for key, tensor in checkpoint.items() if key.startswith(prefix)}


def denoiser_weights(checkpoint: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of a Denoiser in float32."""
    return {
        f"{name}.{key}": tensor
        for name, prefix in DENOISER.items()
        for key, tensor in part(checkpoint, prefix).items()
        if key != SIGNATURE
    }


def load_autoencoder(path: Path) -> Autoencoder:
    """Return the frozen autoencoder of a checkpoint file."""
    weights = part(load_file(path), AUTOENCODER)
    return frozen_autoencoder({key: tensor for key, tensor in weights.items() if key.startswith("taesd_")})


def frozen_autoencoder(weights: dict[str, Tensor]) -> Autoencoder:
    model = Autoencoder.of(weights).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return model.eval().requires_grad_(False)
