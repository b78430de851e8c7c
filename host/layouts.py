"""Layouts for the nodes: reads settings, joins windows, and adds node names to error messages."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..diffusion.tiles import TiledLayout
from ..diffusion.windows import Joinable, Layout, extended, interpolated, join_all, known_at
from .given_frames import GivenFrames, rgb

__all__ = ["extended", "interpolation_layout", "join_videos", "known_at", "read_positions"]


def read_positions(text: str, images: int) -> list[int]:
    """Read whole numbers separated by commas, one for each image."""
    try:
        positions = [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f'"{text}" is not a list of frame numbers. Write whole numbers separated by commas, for example 0, 4, -1.'
        ) from None
    if len(positions) != images:
        count = f"{len(positions)} position{'s' * (len(positions) != 1)}"
        raise ValueError(f"{count} for {images} image{'s' * (images != 1)}: write one position for each image.")
    return positions


def interpolation_layout(given: GivenFrames, factor: int, margin: int, is_paper: bool, frames: int) -> Layout:
    """Lay out new frames between and around the given ones, see `interpolated`.

    frames: of a window, as the layers were trained. A window holds as many given frames as fit, at least two.
    """
    if given.count < 2:
        raise ValueError(
            f"Interpolation needs at least 2 frames, got {given.count}: put single images together with Batch Images, "
            "or animate one with First Frame Conditioning."
        )
    window = max(2, (frames - 2 * margin - 1) // factor + 1)
    return interpolated(given.count, factor, (margin, margin), window, paper=is_paper)


def join_videos(layouts: Sequence[Joinable], videos: Sequence[Tensor], given: Sequence[Tensor]) -> list[Tensor]:
    """Join the windows of several videos, see `join_all`. Frames lose an alpha channel."""
    if given and any(isinstance(layout, TiledLayout) for layout in layouts):
        raise ValueError("Super-resolution changes all frames: disconnect frames of Join Video.")
    try:
        return join_all(layouts, [rgb(video) for video in videos], [rgb(frames) for frames in given])
    except ValueError as reason:
        raise ValueError(
            f"{reason} Connect to images the decoded frames of all windows, to layout the output of the conditioning "
            "node that these windows come from, and to frames the frames that it was given, in the same size."
        ) from None
