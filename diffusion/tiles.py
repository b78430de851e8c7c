"""Tiled layouts: a video whose frames are all known, cut into overlapping windows in time and tiles in space."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .windows import Layout, Window


@dataclass(frozen=True)
class TiledLayout:
    """Layouts of the frames, rows and columns of a video [T, H, W, C]; every combination of windows is sampled."""

    time: Layout
    rows: Layout
    columns: Layout

    @property
    def windows(self) -> list[tuple[Window, Window, Window]]:
        """Return the windows of frames, rows and columns, in the order that `join` expects."""
        return list(itertools.product(self.time.windows, self.rows.windows, self.columns.windows))

    def join(self, videos: Sequence[Tensor], given: Tensor | None = None) -> Tensor:
        """Join the windows' frames [T, H, W, C] to the whole video, with linear cross-fades where windows overlap.

        Raises:
            ValueError: for a wrong number or size of windows, and for any `given` frames, because they are smaller than
            the video.
        """
        if given is not None:
            raise ValueError("The given frames are smaller than the video, so they cannot replace its frames.")
        sizes = [tuple(window.frames for window in each) for each in self.windows]
        found = [tuple(video.shape[:3]) for video in videos]
        if found != sizes:
            raise ValueError(f"Expected {_windows(sizes)} (frames, height, width), got {_windows(found)}.")
        parts = list(videos)
        for dim, layout in self._blended():
            count = len(layout.windows)
            parts = [layout.blend(parts[i : i + count], dim) for i in range(0, len(parts), count)]
        return parts[0]

    @property
    def peak_pixels(self) -> int:
        """Return the most pixels that exist at once while `join` runs, those of the windows included."""
        sides = [sum(window.frames for window in each.windows) for each in (self.time, self.rows, self.columns)]
        windows = most = math.prod(sides)
        before = 0
        for dim, layout in self._blended():
            sides[dim] = layout.frames
            made = math.prod(sides)
            most, before = max(most, windows + before + made), made
        return most

    def _blended(self) -> list[tuple[int, Layout]]:
        """Return the dimensions with several windows, in the order in which they are joined."""
        layouts = ((2, self.columns), (1, self.rows), (0, self.time))
        return [(dim, layout) for dim, layout in layouts if len(layout.windows) > 1]


def tiled(
    frames: int, height: int, width: int, *, window: int, overlap: int, tile: int = 0, tile_overlap: int = 0
) -> TiledLayout:
    """Cut a video into windows of at most `window` frames and tiles of at most `tile` pixels along each side.

    tile: 0 means one tile for the whole picture.

    Raises:
        ValueError: if windows or tiles are not larger than their overlap.
    """
    rows, columns = (all_known(side, tile or side, tile_overlap if tile else 0) for side in (height, width))
    return TiledLayout(all_known(frames, window, overlap), rows, columns)


def all_known(count: int, window: int, overlap: int) -> Layout:
    """Lay out `count` known frames in windows of at most `window` frames. Neighbours share at least `overlap`
    frames."""
    if not 0 <= overlap < window:
        raise ValueError(f"Windows of {window} cannot overlap by {overlap}: use an overlap from 0 to {window - 1}.")
    size = min(window, count)
    starts = [*range(0, count - size, window - overlap), count - size]
    windows = tuple(Window(start, size, range(start, start + size)) for start in starts)
    return Layout(count, tuple(range(count)), windows)


def _windows(sizes: Sequence[tuple[int, ...]]) -> str:
    shapes = " and ".join(sorted({"x".join(map(str, size)) for size in sizes}))
    return f"{len(sizes)} window{'s' * (len(sizes) != 1)} of {shapes}" if sizes else "no windows"
