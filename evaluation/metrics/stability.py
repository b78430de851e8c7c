"""Stability over a video of brightness, colours, background and sharpness."""

from __future__ import annotations

import numpy as np


def temporal_stability(frames: np.ndarray) -> float:
    """Return 1 - the mean absolute difference of neighbouring frames [T, H, W, 3], in 0..1; higher flickers less.

    This is VBench's temporal_flickering. Every motion lowers it, and static videos score 1, so compare only videos with
    similar motion.
    """
    if len(frames) < 2:
        raise ValueError("Flicker needs a video of at least 2 frames.")
    return 1 - float(np.abs(np.diff(frames.astype(np.float32), axis=0)).mean()) / 255


def colour_drift(frames: np.ndarray) -> float:
    """Return the distance of the mean colour from that of the first frame, 0..255, mean over time and channels.

    A model that ignores its first frame drifts towards the mean of its training data. The measure is fooled by objects
    that enter, leave or grow.
    """
    means = frames.mean((1, 2), dtype=np.float64)
    return float(np.abs(means[1:] - means[0]).mean())


def background_drift(frames: np.ndarray) -> float:
    """Return the distance of the background from that of the first frame, 0..255, mean over time and channels.

    The background is the majority of pixels: the distance is the median of all differences. The measure is fooled by a
    moving camera over an uneven scene, and by objects that cover more than half of the picture.
    """
    first = frames[0].astype(np.int16)
    drifts = [np.abs(np.median(frame - first, axis=(0, 1))).mean() for frame in frames[1:].astype(np.int16)]
    return float(np.mean(drifts))


def sharpness_ratio(frames: np.ndarray) -> float:
    """Return the gradient energy of the frames over that of the first frame; mean over time.

    1: equally sharp. Below 1: blurred, or objects are gone. The measure is fooled by noise, flicker and ringing, which
    raise it.
    """
    later = np.mean([gradient_energy(frame) for frame in frames[1:]])
    return float(later / max(gradient_energy(frames[0]), 1e-6))


def gradient_energy(picture: np.ndarray) -> float:
    """Return the mean squared difference of neighbouring pixels of a picture [H, W, 3]."""
    values = picture.astype(np.float32)
    return float(np.square(np.diff(values, axis=0)).mean() + np.square(np.diff(values, axis=1)).mean())
