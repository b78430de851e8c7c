"""Resizing as in Emu Video: a box filter by an integer factor, then bicubic, and a centre crop."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import PIL.Image

LONGEST_SIDE = 2.0  # highest ratio of the sides of a bucket


@dataclass(frozen=True)
class Fit:
    """Crop and scale from a source frame to a frame of a clip.

    Args:
        size: Width and height of the clip in pixels.
        box: The cropped part of the source: left, top, right, bottom in pixels of the source.
    """

    size: tuple[int, int]
    box: tuple[float, float, float, float]

    @property
    def enlarged(self) -> float:
        """Factor by which pixels are enlarged; below 1 they are reduced."""
        return self.size[0] / (self.box[2] - self.box[0])

    @property
    def crop(self) -> tuple[int, int]:
        """Left and top of the crop in pixels of the clip, a conditioning of SDXL."""
        return round(self.box[0] * self.enlarged), round(self.box[1] * self.enlarged)


def fit(source: tuple[int, int], size: tuple[int, int]) -> Fit:
    """Return the largest centred part of a frame of `source` (width, height) that has the aspect ratio of `size`."""
    width = min(source[0], source[1] * size[0] / size[1])
    height = width * size[1] / size[0]
    left, top = (source[0] - width) / 2, (source[1] - height) / 2
    return Fit(size, (left, top, left + width, top + height))


def resize(image: np.ndarray, fitted: Fit) -> np.ndarray:
    """Crop and scale a frame, uint8 RGB [h, w, 3] -> [clip h, clip w, 3]."""
    picture = PIL.Image.fromarray(np.ascontiguousarray(image))
    # reducing_gap=1: Pillow first averages boxes of whole pixels, to at most twice the size.
    return np.asarray(
        picture.resize(fitted.size, PIL.Image.Resampling.BICUBIC, box=fitted.box, reducing_gap=1.0), dtype=np.uint8
    )


def buckets(width: int, height: int, multiple: int) -> list[tuple[int, int]]:
    """Return sizes with sides that are multiples of `multiple`, at most width * height pixels, and at most 2:1."""
    area = width * height
    found = set()
    for across in range(multiple, int(math.sqrt(area * LONGEST_SIDE)) + 1, multiple):
        down = int(area / across) // multiple * multiple
        if down and max(across / down, down / across) <= LONGEST_SIDE:
            found |= {(across, down)}
    return sorted(found | {(width, height)})


def nearest(source: tuple[int, int], sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the size with the aspect ratio nearest to that of `source`; of several, the largest."""
    ratio = math.log(source[0] / source[1])
    return min(sizes, key=lambda size: (round(abs(math.log(size[0] / size[1]) - ratio), 6), -size[0] * size[1]))
