"""New frames between two frames: both are warped along the flow to the time in between, and blended.

The flow at that time is splatted from both frames (as in Baker et al., "A Database and Evaluation Methodology for
Optical Flow", 2011, section 3.3.2). A pixel that is visible in only one frame is taken from that frame. Where the flow
is wrong, the two frames are blended unwarped.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from .cuts import is_cut
from .flow import Flow, estimate
from .warp import fill, splat, warp

OCCLUDED_WEIGHT = 1e-3
"""Weight of a pixel that fails the forward-backward check. It matters only where no other pixel lands."""

NOISE_DIFFERENCE = 3e-4
"""Squared colour difference (0..1) that counts as noise: about (4.4 / 255) squared."""


def motion_at(flow: Flow, time: float) -> Tensor:
    """Return the flow [1, 2, H, W] from the first to the second frame, for the pixels at `time` between them (0..1)."""
    from_first = splat(flow.forward, flow.first_seen + OCCLUDED_WEIGHT, time * flow.forward)
    from_second = splat(-flow.backward, flow.second_seen + OCCLUDED_WEIGHT, (1 - time) * flow.backward)
    sums, weights = (one + other for one, other in zip(from_first, from_second, strict=True))
    return fill(sums, weights)


def frame_at(first: Tensor, second: Tensor, flow: Flow, time: float) -> Tensor:
    """Return the frame [1, C, H, W] at `time` between the first (0) and the second (1)."""
    motion = motion_at(flow, time)
    to_first, to_second = -time * motion, (1 - time) * motion
    moved_first, moved_second = warp(first, to_first, "bicubic"), warp(second, to_second, "bicubic")
    first_seen, second_seen = warp(flow.first_seen, to_first), warp(flow.second_seen, to_second)
    # A pixel that is hidden in the other frame must come from this one, so visibility weighs the opposite frame.
    first_weight = (1 - time) * (second_seen + OCCLUDED_WEIGHT)
    second_weight = time * (first_seen + OCCLUDED_WEIGHT)
    moved = (first_weight * moved_first + second_weight * moved_second) / (first_weight + second_weight)
    trust = torch.maximum(first_seen, second_seen) * explained(first, second, moved_first, moved_second)
    return torch.lerp(torch.lerp(first, second, time), moved, trust).clamp(0, 1)


def explained(first: Tensor, second: Tensor, moved_first: Tensor, moved_second: Tensor) -> Tensor:
    """Return the share of the difference between two frames that the motion explains, [1, 1, H, W] in 0..1.

    It is low where warping does not bring the frames closer, and where they differ only by noise. Blending is better
    there.
    """
    before, after = (
        local_mean((one - other).square().mean(1, keepdim=True))
        for one, other in ((first, second), (moved_first, moved_second))
    )
    return before / (before + after + NOISE_DIFFERENCE)


def local_mean(values: Tensor, size: int = 7) -> Tensor:
    """Return the mean of each pixel's neighbourhood of size x size."""
    return F.avg_pool2d(F.pad(values, (size // 2,) * 4, mode="replicate"), size, 1)


def frames_between(frames: Tensor, factor: int, device: torch.device | str = "cpu") -> Iterator[Tensor]:
    """Yield the factor - 1 new frames of each gap, in order, one [H, W, C] at a time.

    Only one gap is held in memory. Across a scene cut the closer frame is repeated; exactly in the middle, the earlier
    one.

    Args:
        frames: [n, H, W, C] in 0..1.
        device: device for warping and blending; the flow itself is estimated on the CPU.

    Raises:
        ValueError: for a factor below 2, before the first frame is computed.
    """
    if factor < 2:
        raise ValueError(f"The factor is {factor}: use 2 or more. 2 adds one new frame between two given ones.")
    gaps = pairwise(frames)
    return (frame for first, second in gaps for frame in in_gap(first, second, factor, device))


def in_gap(first: Tensor, second: Tensor, factor: int, device: torch.device | str) -> Iterator[Tensor]:
    """Yield the new frames [H, W, C] between two frames [H, W, C]."""
    first, second = (frame.to(device, torch.float32).movedim(-1, 0)[None] for frame in (first, second))
    flow = estimate(first, second)
    cut = is_cut(first, second, flow)
    for step in range(1, factor):
        time = step / factor
        nearer = first if time <= 0.5 else second
        between = nearer if cut else frame_at(first, second, flow, time)
        yield between[0].movedim(0, -1)
