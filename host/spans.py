"""Part of a video that is sampled in windows and tiles, to which masks and hints of the whole video are cut."""

from __future__ import annotations

from typing import NamedTuple

import comfy.utils
from torch import Tensor

from ..diffusion.windows import Layout, Window


class Span(NamedTuple):
    """`count` of `total` frames, rows or columns, from number `start` on."""

    start: int
    count: int
    total: int

    @classmethod
    def of(cls, window: Window, layout: Layout, unit: int = 1) -> Span:
        """Return the span of a layout's window. unit: pixels per latent, for windows of pixels."""
        return cls(window.start // unit, window.frames // unit, layout.frames // unit)

    def within(self, scale: int = 1) -> slice:
        """Return the span as a slice of all frames, rows or columns, each `scale` times as many."""
        return slice(self.start * scale, (self.start + self.count) * scale)


class VideoPart(NamedTuple):
    """Part of a video: a window of frames, and a tile (rows and columns in latents) or None for the whole picture."""

    frames: Span
    tile: tuple[Span, Span] | None = None

    def of_window(self, values: Tensor, name: str) -> Tensor:
        """Return the values [n, ...] of the window's frames.

        One value for all frames, or values for as many frames as the window has, are returned unchanged, as texts are.

        Raises:
            ValueError: for values for another number of frames; the message calls them `name`.
        """
        if len(values) in (1, self.frames.count):
            return values
        if len(values) != self.frames.total:
            raise ValueError(
                f"There are {len(values)} {name}, but the video has {self.frames.total} frames: connect one, or one "
                "for each frame of the whole video."
            )
        return values[self.frames.within()]

    def of_tile(self, pictures: Tensor, scale: int, method: str, crop: str) -> Tensor:
        """Return the tile's part of pictures [n, C, H, W], which show the whole picture at any size.

        scale: pixels per latent of the result. method, crop: of `common_upscale`.
        """
        if self.tile is None:
            return pictures
        rows, columns = self.tile
        whole = comfy.utils.common_upscale(pictures, columns.total * scale, rows.total * scale, method, crop)
        return whole[..., rows.within(scale), columns.within(scale)]
