"""PIA's affinities: how alike each frame is to the given image, a number per frame (Zhang et al. 2023, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

# The published affinities by distance from the image's frame; beyond the end of a list, its last number.
PRESETS: dict[str, tuple[float, ...]] = {
    "small motion": (1.0, 0.9, 0.85, 0.85, 0.85, 0.8),
    "medium motion": (1.0, 0.8, 0.8, 0.8, 0.79, 0.78, 0.75),
    "large motion": (1.0, 0.8, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.6, 0.5, 0.5),
    "loop, small motion": (1.0, 0.9, 0.85, 0.85, 0.85, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.85, 0.85, 0.9, 1.0),
    "loop, medium motion": (1.0, 0.8, 0.8, 0.8, 0.79, 0.78, 0.75, 0.75, 0.75, 0.75, 0.75, 0.78, 0.79, 0.8, 0.8, 1.0),
    "loop, large motion": (1.0, 0.8, 0.7, 0.7, 0.7, 0.7, 0.6, 0.5, 0.5, 0.6, 0.7, 0.7, 0.7, 0.7, 0.8, 1.0),
    "style transfer, small motion": (0.5, 0.4, 0.4, 0.4, 0.35, 0.3),
    "style transfer, medium motion": (0.5, 0.4, 0.4, 0.4, 0.35, 0.35, 0.3, 0.25, 0.2),
    "style transfer, large motion": (0.5, 0.2),
}


def affinities(preset: str, frames: int) -> Tensor:
    """[frames], for an image at the first frame. Raises ValueError for an unknown preset."""
    if preset not in PRESETS:
        raise ValueError(f'There is no motion preset "{preset}": use one of {", ".join(PRESETS)}.')
    ramp = PRESETS[preset]
    return torch.tensor([ramp[min(frame, len(ramp) - 1)] for frame in range(frames)])


def concat_affinity(latent: Tensor, affinity: Tensor) -> Tensor:
    """[1, C, h, w] and [T] -> [T, 1 + C, h, w]: the affinity, then the image on every frame.

    The latent is in the scale the network sees.
    """
    if latent.ndim != 4 or latent.shape[0] != 1:
        raise ValueError(f"Expected the latent of one image, [1, C, h, w], got {list(latent.shape)}.")
    mask = affinity.to(latent)[:, None, None, None].expand(-1, 1, *latent.shape[2:])
    return torch.cat((mask, latent.expand(len(affinity), -1, -1, -1)), dim=1)
