"""Width of the edges of a drawn shape."""

from __future__ import annotations

import cv2
import numpy as np

from .reader import read_clip
from .roundness import drawn_coverage

LOW, HIGH = 0.1, 0.9


def edge_width(frame: np.ndarray) -> float:
    """Return the mean distance in pixels over which a shape's edge rises from 10 to 90 %.

    It is the area of the pixels in between, over the length of the outline. A shape that is drawn without blur has 0.8
    pixels. NaN if no shape is seen.

    Args:
        frame: uint8 [h, w, 3] RGB with one shape in view.
    """
    (sight,) = read_clip(frame[None]).sights
    if sight is None:
        return float("nan")
    drawn = drawn_coverage(frame.astype(np.float32), sight)
    outlines, _ = cv2.findContours((drawn > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    length = max((cv2.arcLength(outline, closed=True) for outline in outlines), default=0.0)
    return float(((drawn > LOW) & (drawn < HIGH)).sum() / max(length, 1.0))
