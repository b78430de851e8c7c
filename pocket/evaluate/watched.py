"""A pocket video as the automatic judge sees it: sights, path, colours and edges, each computed once."""

from __future__ import annotations

from functools import cached_property

import cv2
import numpy as np

from ..world.reader import Reading, Sight, read_clip
from ..world.roundness import CORE, drawn_coverage, shape_error
from .caption import Wanted

FARTHEST = 1.7  # radii; no part of a shape is farther from its centre
DRAWN = 4  # frames of a video whose shape is compared with the ideal one
BAND = 6  # pixels on both sides of an edge within which its width is measured


class Watched:
    """A video, uint8 [T, h, w, 3] RGB, and what its caption asks for."""

    def __init__(self, frames: np.ndarray, wanted: Wanted):
        self.frames, self.wanted = frames, wanted

    @cached_property
    def reading(self) -> Reading:
        return read_clip(self.frames)

    @cached_property
    def seen(self) -> list[tuple[int, Sight]]:
        """Return (frame number, sight) of the frames that show a shape."""
        return [(i, sight) for i, sight in enumerate(self.reading.sights) if sight]

    @cached_property
    def shape(self) -> str:
        """Return the shape that most frames show, or "" if none shows one."""
        return self.reading.majority("shape")

    @cached_property
    def path(self) -> np.ndarray:
        """Return frame number, x, y and radius of the frames that show a shape, [n, 4], in units of the frame."""
        return np.array([(i, s.x, s.y, s.radius) for i, s in self.seen]).reshape(-1, 4)

    @cached_property
    def colours(self) -> np.ndarray:
        """Return the RGB colours of shape and background in each frame, [T, 2, 3], NaN for an absent shape.

        The background's is that of the first frame plus the change of the pixels that both frames show of it, so that
        its shading does not count as a change.
        """
        distances = [_distance(sight, len(self.frames[0])) for sight in self.reading.sights]
        shown = [distance > FARTHEST for distance in distances]
        start = _median(self.frames[0], shown[0])
        first = self.frames[0].astype(np.int16)
        result = np.full((len(self.frames), 2, 3), np.nan)
        for i, (frame, distance) in enumerate(zip(self.frames, distances, strict=True)):
            if self.reading.sights[i]:
                result[i, 0] = _median(frame, distance < CORE)
            result[i, 1] = start + _median(frame - first, shown[0] & shown[i])
        return result

    @cached_property
    def shape_errors(self) -> np.ndarray:
        """Return the area between the drawn and the ideal shape over its area, at most 1, of `DRAWN` frames.

        Frames are evenly spaced. One without a shape has 1.
        """
        numbers = np.unique(np.linspace(0, len(self.frames) - 1, DRAWN).round().astype(int))
        has_shape = [self.reading.sights[i] is not None for i in numbers]
        errors = [
            shape_error(self.frames[i], (self.shape,)) if seen else 1.0
            for i, seen in zip(numbers, has_shape, strict=True)
        ]
        return np.minimum(errors, 1.0)

    @cached_property
    def edge_width(self) -> float:
        """Return the mean width of the shape's edges in thousandths of the frame; NaN without a shape."""
        widths = [_edge_width(self.frames[i], sight) for i, sight in self.seen]
        return float(np.mean(widths)) * 1000 / self.frames.shape[1] if widths else float("nan")


def _distance(sight: Sight | None, size: int) -> np.ndarray:
    """Return the distance of every pixel to the centre of the shape in radii, [size, size]; inf without a shape."""
    if sight is None:
        return np.full((size, size), np.inf)
    rows, columns = (np.mgrid[:size, :size] + 0.5) / size
    return np.hypot(columns - sight.x, rows - sight.y) / sight.radius


def _median(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return the median of values [h, w, 3] over some pixels, or over all of them where `where` has none."""
    return np.median(values[where] if where.any() else values.reshape(-1, 3), 0)


def _edge_width(frame: np.ndarray, sight: Sight) -> float:
    """Return the width in pixels of the ramp between background and shape.

    The integral of 4 a (1 - a) across a linear ramp of the coverage a is two thirds of its width.
    """
    coverage = drawn_coverage(frame.astype(np.float32), sight)
    mask = (coverage > 0.5).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    length = sum(cv2.arcLength(contour, True) for contour in contours)
    kernel = np.ones((2 * BAND + 1, 2 * BAND + 1), np.uint8)
    band = cv2.dilate(mask, kernel) > cv2.erode(mask, kernel)
    return 1.5 * float((4 * coverage * (1 - coverage))[band].sum()) / max(length, 1.0)
