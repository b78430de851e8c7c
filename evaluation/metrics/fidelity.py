"""Similarity of a picture or video to a reference, pixel by pixel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from kornia.metrics import ssim as structural_similarity
from torch import Tensor

IDENTICAL_ERROR = 1e-3 / 255**2
"""Squared error of identical pictures with pixels in 0..1: 78.13 dB, so that means stay finite."""

LUMINANCE = 0.299, 0.587, 0.114
"""Weights of red, green and blue (BT.601)."""


def as_video(frames: Any) -> Tensor:
    """Return frames [..., H, W, C], an array or tensor of uint8 0..255 or floats 0..1, as float64 in 0..1."""
    if isinstance(frames, np.ndarray):
        frames = torch.from_numpy(np.ascontiguousarray(frames))
    return frames.double() / 255 if frames.dtype == torch.uint8 else frames.double()


def same_size(one: Tensor, other: Tensor) -> None:
    if one.shape != other.shape:
        raise ValueError(
            f"The video is {tuple(one.shape)} and its reference {tuple(other.shape)}; they must have the same shape."
        )


def psnr(video: Any, reference: Any) -> float:
    """Return the peak signal-to-noise ratio in dB of all pixels of two videos [..., H, W, C] together.

    Higher is closer; identical ones count as 78.13 dB. It is fooled by blur, which it prefers to sharp detail that is
    displaced by a pixel. It ignores how visible an error is.
    """
    one, other = as_video(video), as_video(reference)
    same_size(one, other)
    error = float((one - other).square().mean())
    return -10 * math.log10(max(error, IDENTICAL_ERROR))


def ssim(video: Any, reference: Any) -> float:
    """Return the structural similarity of the luminance of two videos [..., H, W, 3], mean over frames; up to 1.

    The window is Gaussian with 11 pixels and sigma 1.5 (Wang et al. 2004). It is fooled by a shift of a pixel. It is
    high wherever both videos are flat, so a small object on a plain background hardly counts, nor does a loss of
    contrast.
    """
    one, other = as_video(video), as_video(reference)
    same_size(one, other)
    if min(one.shape[-3:-1]) < 11:
        raise ValueError(f"SSIM needs pictures of at least 11 x 11 pixels, got {tuple(one.shape[-3:-1])}.")
    weights = one.new_tensor(LUMINANCE)
    grey, grey_reference = ((frames @ weights).reshape(-1, 1, *one.shape[-3:-1]) for frames in (one, other))
    return float(structural_similarity(grey, grey_reference, 11, padding="valid").mean())
