"""The frames between two frames: both moved along the flow to the time in between, and blended.

The flow at that time is that of both frames, splatted there (as in Baker et al., "A Database and Evaluation
Methodology for Optical Flow", 2011, section 3.3.2); a pixel that only one of the frames shows is taken from that one.
Where the flow explains nothing, the two frames are blended as they are.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from .cuts import is_cut
from .flow import Flow, estimate
from .warp import fill, splat, warp

UNSEEN = 1e-3
"""What a pixel weighs that the forward-backward check refuses: it counts where nothing else does."""

NOISE = 3e-4
"""The squared difference of colours, in 0..1, that noise makes: about (4.4 / 255) squared."""


def motion_at(flow: Flow, time: float) -> Tensor:
    """[1, 2, H, W]: how far each pixel of the frame at `time` (0 first, 1 second) moves from first to second."""
    from_first = splat(flow.forward, flow.first_seen + UNSEEN, time * flow.forward)
    from_second = splat(-flow.backward, flow.second_seen + UNSEEN, (1 - time) * flow.backward)
    sums, weights = (one + other for one, other in zip(from_first, from_second, strict=True))
    return fill(sums, weights)


def frame_at(first: Tensor, second: Tensor, flow: Flow, time: float) -> Tensor:
    """The frame [1, C, H, W] at `time` between the first (0) and the second (1)."""
    motion = motion_at(flow, time)
    to_first, to_second = -time * motion, (1 - time) * motion
    moved_first, moved_second = warp(first, to_first, "bicubic"), warp(second, to_second, "bicubic")
    first_seen, second_seen = warp(flow.first_seen, to_first), warp(flow.second_seen, to_second)
    # A pixel that the other frame does not show must come from its own: each frame's weight is what the other lacks.
    first_weight = (1 - time) * (second_seen + UNSEEN)
    second_weight = time * (first_seen + UNSEEN)
    moved = (first_weight * moved_first + second_weight * moved_second) / (first_weight + second_weight)
    trust = torch.maximum(first_seen, second_seen) * explained(first, second, moved_first, moved_second)
    return torch.lerp(torch.lerp(first, second, time), moved, trust).clamp(0, 1)


def explained(first: Tensor, second: Tensor, moved_first: Tensor, moved_second: Tensor) -> Tensor:
    """[1, 1, H, W] in 0..1: how much of the difference between the frames the motion takes away.

    Low where moving them brings them no closer, and where they differ by no more than noise: blending is better there.
    """
    before, after = (
        local_mean((one - other).square().mean(1, keepdim=True))
        for one, other in ((first, second), (moved_first, moved_second))
    )
    return before / (before + after + NOISE)


def local_mean(values: Tensor, size: int = 7) -> Tensor:
    return F.avg_pool2d(F.pad(values, (size // 2,) * 4, mode="replicate"), size, 1)


def frames_between(frames: Tensor, factor: int, device: torch.device | str = "cpu") -> Iterator[Tensor]:
    """The factor - 1 new frames of each gap, in order, one [H, W, C] at a time; only one gap is held in memory.

    frames: [n, H, W, C] in 0..1. Across a scene cut nothing is blended: the nearer frame is repeated, the earlier one
    in the middle.
    device: where frames are moved and blended; the flow itself is found on the CPU.
    Raises ValueError for a factor below 2, before the first frame is asked for.
    """
    if factor < 2:
        raise ValueError(f"The factor must be 2 or more, got {factor}: 2 puts one new frame between any two.")
    gaps = zip(frames[:-1], frames[1:], strict=True)
    return (frame for first, second in gaps for frame in in_gap(first, second, factor, device))


def in_gap(first: Tensor, second: Tensor, factor: int, device: torch.device | str) -> Iterator[Tensor]:
    first, second = (frame.to(device, torch.float32).movedim(-1, 0)[None] for frame in (first, second))
    flow = estimate(first, second)
    cut = is_cut(first, second, flow)
    for step in range(1, factor):
        time = step / factor
        if cut:
            between = first if time <= 0.5 else second
        else:
            between = frame_at(first, second, flow, time)
        yield between[0].movedim(0, -1)
