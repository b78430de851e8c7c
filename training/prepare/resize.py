"""Resizing as in Emu Video: box filter by a whole factor, bicubic for the rest, and a centre crop."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import PIL.Image

LONGEST_SIDE = 2.0  # of the shorter one, for aspect buckets


@dataclass(frozen=True)
class Fit:
    """How a frame becomes a frame of a clip.

    Args:
        size: Width and height of the clip in pixels.
        box: The part of the source that is kept: left, top, right, bottom, in its pixels.
    """

    size: tuple[int, int]
    box: tuple[float, float, float, float]

    @property
    def enlarged(self) -> float:
        """Factor by which pixels are enlarged; below 1 they are reduced."""
        return self.size[0] / (self.box[2] - self.box[0])

    @property
    def crop(self) -> tuple[int, int]:
        """Left and top of the crop in pixels of the clip, as SDXL is conditioned on it."""
        return round(self.box[0] * self.enlarged), round(self.box[1] * self.enlarged)


def fit(source: tuple[int, int], size: tuple[int, int]) -> Fit:
    """Return the largest centred part of a frame of `source` (width, height) that has the aspect ratio of `size`."""
    width = min(source[0], source[1] * size[0] / size[1])
    height = width * size[1] / size[0]
    left, top = (source[0] - width) / 2, (source[1] - height) / 2
    return Fit(size, (left, top, left + width, top + height))


def resize(image: np.ndarray, fitted: Fit) -> np.ndarray:
    """uint8 RGB [h, w, 3] -> [size h, size w, 3]."""
    picture = PIL.Image.fromarray(np.ascontiguousarray(image))
    # reducing_gap=1: Pillow averages boxes of whole pixels first, down to less than twice the size.
    return np.asarray(
        picture.resize(fitted.size, PIL.Image.Resampling.BICUBIC, box=fitted.box, reducing_gap=1.0), dtype=np.uint8
    )


def buckets(width: int, height: int, multiple: int) -> list[tuple[int, int]]:
    """Return sizes of at most width x height pixels, whose sides are multiples of `multiple` and up to 2:1."""
    area = width * height
    found = set()
    for across in range(multiple, int(math.sqrt(area * LONGEST_SIDE)) + 1, multiple):
        down = int(area / across) // multiple * multiple
        if down and max(across / down, down / across) <= LONGEST_SIDE:
            found |= {(across, down)}
    return sorted(found | {(width, height)})


def nearest(source: tuple[int, int], sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """The size whose aspect ratio is nearest to that of `source`, and of these the largest."""
    ratio = math.log(source[0] / source[1])
    return min(sizes, key=lambda size: (round(abs(math.log(size[0] / size[1]) - ratio), 6), -size[0] * size[1]))
