"""Effect of the noise schedule: how much of a video's mean colour is kept by sampling, measured and predicted."""

from __future__ import annotations

import math

import numpy as np

from .arms import schedule_of
from .recipes import Base

CHANNELS = 3  # of pictures; the first of the latents hold the colours of the small picture as well


def survival(made: np.ndarray, true: np.ndarray) -> float:
    """Return the slope, through the mean of the true ones, of made mean colours over true mean colours, both [n, 3].

    1: colours are as they should be. Below 1: they are drawn towards the mean of the data.
    """
    centre = true.mean(0)
    return float(((made - centre) * (true - centre)).sum() / np.square(true - centre).sum())


def predicted_survival(base: Base, latents: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Return the survival of each frame, [T], that an exact network and exact steps have for normal data.

    The network knows a clip's first frame and its words about light. The frames' mean colours then have the remaining
    variance v along each principal direction, in an orthonormal basis. The last timestep still shows a trace of them.
    Sampling has noise in its place and loses the share sqrt(abar v / (abar v + 1 - abar)) of the known colour. Shapes,
    sizes and motions, which the network also knows, are left out, so less is lost than predicted.

    latents: [n, T, C, h, w]. light: [n], see `data.light_of`.
    """
    left = float(schedule_of(base).alphas_cumprod[-1])
    colours = latents[:, :, :CHANNELS].mean((3, 4), dtype=np.float64)
    known, kept = np.empty_like(colours), np.empty_like(colours)
    for kind in np.unique(light):
        chosen = light == kind
        first = np.concatenate([colours[chosen, 0], np.ones((chosen.sum(), 1))], 1)
        values = colours[chosen].reshape(chosen.sum(), -1)
        expected = first @ np.linalg.lstsq(first, values, rcond=None)[0]
        rest = values - expected
        variance, axes = np.linalg.eigh(rest.T @ rest / len(rest) * math.prod(latents.shape[3:]))
        signal = left * variance.clip(0)
        lost = np.sqrt(signal / (signal + 1 - left))
        known[chosen] = expected.reshape(-1, *colours.shape[1:])
        kept[chosen] = (expected - expected @ axes * lost @ axes.T).reshape(-1, *colours.shape[1:])
    return np.array([survival(kept[:, t], known[:, t]) for t in range(colours.shape[1])])
