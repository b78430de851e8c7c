"""Detection of scene cuts between two frames."""

from __future__ import annotations

from torch import Tensor

from .flow import Flow
from .warp import warp

PIXEL_DIFFERENCE = 0.1
"""Colour difference (0..1) above which a pixel counts as mismatched."""

CUT_SHARE = 0.5
"""Fraction of mismatched pixels above which two frames count as a scene cut."""


def is_cut(first: Tensor, second: Tensor, flow: Flow) -> bool:
    """Return whether the scene changes between two frames [1, C, H, W], so that warping does not align them."""
    return (mismatch(first, second, flow.forward) + mismatch(second, first, flow.backward)) / 2 > CUT_SHARE


def mismatch(frame: Tensor, other: Tensor, flow: Tensor) -> float:
    """Return the fraction of pixels whose colour differs from that of the matching pixel in the other frame."""
    difference = (frame - warp(other, flow)).abs().amax(1)
    return float((difference > PIXEL_DIFFERENCE).float().mean())
