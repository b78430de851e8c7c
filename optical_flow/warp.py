"""Warping pictures along a flow: backward (sampling) and forward (splatting)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def positions(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Return the target x and y [1, H, W] of each pixel under a flow [1, 2, H, W] in pixels."""
    height, width = flow.shape[2:]
    x = torch.arange(width, device=flow.device, dtype=flow.dtype)
    y = torch.arange(height, device=flow.device, dtype=flow.dtype)
    return x + flow[:, 0], y[:, None] + flow[:, 1]


def warp(picture: Tensor, flow: Tensor, mode: str = "bilinear") -> Tensor:
    """Sample the picture [1, C, H, W] at p + flow(p) for each pixel p. Outside the picture its border repeats.

    mode: "bilinear", or "bicubic", which keeps frames sharp but may overshoot their range.
    """
    from kornia.geometry.transform import remap

    height, width = picture.shape[2:]
    x, y = positions(flow)
    return remap(picture, x.clamp(0, width - 1), y.clamp(0, height - 1), mode=mode, align_corners=True)


def splat(values: Tensor, weights: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Splat each pixel p to p + flow(p), shared among the four pixels around that point.

    values: [1, C, H, W]. weights: [1, 1, H, W]. Returns the sums of weighted values and of weights, in these shapes.
    """
    height, width = flow.shape[2:]
    x, y = (place[0].flatten() for place in positions(flow))
    dropped = torch.cat((values * weights, weights), 1)[0].flatten(1)
    sums = torch.zeros_like(dropped)
    for column in (x.floor(), x.floor() + 1):
        for row in (y.floor(), y.floor() + 1):
            share = (1 - (x - column).abs()) * (1 - (y - row).abs())
            share = share * ((column >= 0) & (column < width) & (row >= 0) & (row < height))
            index = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
            sums.scatter_add_(1, index.expand_as(dropped), dropped * share)
    sums = sums.unflatten(1, (height, width))[None]
    return sums[:, :-1], sums[:, -1:]


def fill(sums: Tensor, weights: Tensor, enough: float = 0.1) -> Tensor:
    """Return means of splatted sums. Pixels with less than about `enough` weight take the mean of their surroundings.

    Push-pull on a pyramid of halves (Gortler et al., "The Lumigraph", 1996, section 3.4).
    """
    size = sums.shape[2:]
    if max(size) == 1:
        return sums / weights.clamp(min=1e-9)
    coarse = fill(F.avg_pool2d(sums, 2, ceil_mode=True), F.avg_pool2d(weights, 2, ceil_mode=True), enough)
    around = F.interpolate(coarse, size, mode="bilinear")
    return (sums + enough * around) / (weights + enough)
