"""Background of a frame with one shape: brightness and blotches."""

from __future__ import annotations

import cv2
import numpy as np

from .reader import border_background, find_shape

EVEN = 3.0
"""Largest spread of a background without blotches, of 255. True frames are below 2, where bright ones are clipped."""
CHANGE = 0.7
"""Brightness at one end of a clip, as a share of that at the other, at which the light has changed. The world dims to
0.35 to 0.5."""
MARGIN = 20  # share of the frame's height around a shape that counts as its edge: 1 / MARGIN


def background(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the background as a plane per channel, [h, w, 3], and the pixels that show it, bool [h, w].

    frame: [h, w, 3]. The largest shape and a margin around it are left out.
    """
    frame = frame.astype(np.float32)
    h, w = frame.shape[:2]
    found = find_shape(frame, border_background(frame))
    seen = np.ones((h, w), bool)
    if found is not None:
        margin = 2 * (h // MARGIN) + 1
        seen = cv2.dilate(found[0], np.ones((margin, margin), np.uint8)) == 0
    yy, xx = np.mgrid[0:h, 0:w] / h
    basis = np.stack([np.ones_like(xx), xx, yy], -1).astype(np.float32)
    plane, *_ = np.linalg.lstsq(basis[seen], frame[seen], rcond=None)
    return basis @ plane, seen


def brightness(frame: np.ndarray) -> float:
    """Return the mean of the background, 0..255."""
    return float(background(frame)[0].mean())


def spread(frame: np.ndarray) -> float:
    """Return the standard deviation of the background from a plane, of 255, in the channel where it is largest."""
    plane, seen = background(frame)
    return float((frame - plane)[seen].std(0).max())


def light_change(frames: np.ndarray) -> str:
    """Return "getting darker", "getting brighter" or "" of a clip [T, h, w, 3]."""
    ratio = brightness(frames[-1]) / max(brightness(frames[0]), 1.0)
    return "getting darker" if ratio < CHANGE else "getting brighter" if ratio > 1 / CHANGE else ""
