"""Frames that the model is given: zero-padded latents and a mask, 1 = known (Emu Video, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor


def first_frame(latent: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """[1, C, h, w] -> latents [frames, C, h, w], zero but for frame 0, and mask [frames, 1, h, w].

    The latent is in the scale the network sees; zeros are added in latent space, after encoding and scaling.
    """
    if latent.ndim != 4 or latent.shape[0] != 1:
        raise ValueError(f"Expected the latent of one frame, [1, C, h, w], got {list(latent.shape)}.")
    if frames < 1:
        raise ValueError(f"A video needs at least one frame, got {frames}.")
    known = latent.new_zeros(frames, *latent.shape[1:])
    mask = latent.new_zeros(frames, 1, *latent.shape[2:])
    known[0], mask[0] = latent[0], 1.0
    return known, mask


def concat_known(known: Tensor, mask: Tensor) -> Tensor:
    """[T, C, h, w] and [T, 1, h, w] -> [T, C+1, h, w], the channels that follow the noisy latent."""
    return torch.cat((known, mask), dim=1)
