"""Artificial faults in a good video: training examples for each reason, and checks with a known answer."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Frames = np.ndarray
"""uint8 [T, H, W, 3], RGB."""


def _blurred(frames: Frames) -> Frames:
    radius = max(frames.shape[1:3]) / 40
    return np.stack([cv2.GaussianBlur(frame, (0, 0), radius) for frame in frames])


def _stuttering(frames: Frames) -> Frames:
    times = np.arange(len(frames))
    return frames[np.where(times % 4 < 2, times - times % 4, np.minimum(times + 1, len(frames) - 1))]


def _scrambled(frames: Frames) -> Frames:
    """Swap the blocks of a 6 x 6 grid, in the same way in every frame."""
    rows, columns = (np.array_split(np.arange(size), 6) for size in frames.shape[1:3])
    order = np.random.default_rng(0).permutation(36)
    result = frames.copy()
    for target, source in enumerate(order):
        (to_y, to_x), (y, x) = divmod(target, 6), divmod(int(source), 6)
        height = min(len(rows[to_y]), len(rows[y]))
        width = min(len(columns[to_x]), len(columns[x]))
        result[:, rows[to_y][0] : rows[to_y][0] + height, columns[to_x][0] : columns[to_x][0] + width] = frames[
            :, rows[y][0] : rows[y][0] + height, columns[x][0] : columns[x][0] + width
        ]
    return result


def _flickering(frames: Frames) -> Frames:
    gains = np.random.default_rng(0).uniform(0.45, 1.0, (len(frames), 1, 1, 3))
    return (frames * gains).astype(np.uint8)


def _frozen(frames: Frames) -> Frames:
    return np.repeat(frames[:1], len(frames), 0)


def _recoloured(frames: Frames) -> Frames:
    return np.ascontiguousarray(frames[..., [1, 2, 0]])


def _reversed(frames: Frames) -> Frames:
    return frames[::-1].copy()


FAULTS: dict[str, Callable[[Frames], Frames]] = {
    "blurred": _blurred,
    "stuttering": _stuttering,
    "scrambled": _scrambled,
    "flickering": _flickering,
    "frozen": _frozen,
    "recoloured": _recoloured,
    "reversed": _reversed,
}


def spoiled(frames: Frames) -> Frames:
    """Return a video that every attentive rater finds worse: scrambled and flickering."""
    return _flickering(_scrambled(frames))
