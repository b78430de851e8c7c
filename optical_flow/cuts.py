"""Scene cuts: two frames that are not of the same scene."""

from __future__ import annotations

from torch import Tensor

from .flow import Flow
from .warp import warp

UNLIKE = 0.1
"""The difference of colours, in 0..1, above which a pixel is another than the one the flow found for it."""

MOST = 0.5
"""The share of such pixels above which the scene is another."""


def is_cut(first: Tensor, second: Tensor, flow: Flow) -> bool:
    """Whether the scene changes between two frames [1, C, H, W]: moving them does not make them alike."""
    return (unlike(first, second, flow.forward) + unlike(second, first, flow.backward)) / 2 > MOST


def unlike(frame: Tensor, other: Tensor, flow: Tensor) -> float:
    """The share of the frame's pixels that the other frame does not show where the flow says."""
    difference = (frame - warp(other, flow)).abs().amax(1)
    return float((difference > UNLIKE).float().mean())
