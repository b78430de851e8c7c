"""Effect of zero terminal SNR in (b): how much of a video's mean colour is kept by sampling."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...evaluation.tables import markdown
from ...evaluation.videos import read
from .arms import Lab, schedule_of
from .data import judged_scenes, true_videos
from .recipes import ARMS, HIGH, Base, Side
from .videos import video_path

CHANNELS = 3  # of the latents: they hold the colours of the small picture


def survival(made: np.ndarray, true: np.ndarray) -> float:
    """Return the slope, through the mean of the true ones, of made mean colours over true mean colours, both [n, 3].

    1: colours are as they should be. Below 1: they are drawn towards the mean of the data.
    """
    centre = true.mean(0)
    return float(((made - centre) * (true - centre)).sum() / np.square(true - centre).sum())


def residual_spread(lab: Lab) -> float:
    """Return the standard deviation, in latents, of a clip's mean colour that its first frame does not tell."""
    latents = lab.encoded[HIGH].latents[:, :, :CHANNELS].float().mean((3, 4)).numpy()  # [n, T, C]
    first, whole = latents[:, 0], latents.mean(1)
    basis = np.concatenate([first, np.ones((len(first), 1))], 1)
    fit, *_ = np.linalg.lstsq(basis, whole, rcond=None)
    return float((whole - basis @ fit).std())


def predicted_survival(base: Base, spread: float, values: int) -> float:
    """Return the survival that an exact network has, for one Gaussian mode and exact steps.

    The mean of `values` latents of a video has the variance spread^2 values, in an orthonormal basis. Noise replaces
    what the last timestep would still hold of it, so the share sqrt(abar v / (abar v + 1 - abar)) is lost.
    """
    left = float(schedule_of(base).alphas_cumprod[-1])
    variance = spread**2 * values
    return 1 - math.sqrt(left * variance / (left * variance + 1 - left))


def colour_table(lab: Lab, seeds: Sequence[int], names: Sequence[str]) -> str:
    """Return predicted and measured survival of mean colours for arms that begin with true first frames."""
    true = true_videos(judged_scenes(lab.scale.prompts), HIGH)
    spread = residual_spread(lab)
    values = true.shape[1] * (HIGH // 8) ** 2
    rows = []
    for name in names:
        made = np.stack(
            [read(video_path(lab, Side(name), prompt, seed)).frames for seed in seeds for prompt in range(len(true))]
        )
        means = [
            survival(made[:, t].mean((1, 2)), np.concatenate([true[:, t].mean((1, 2))] * len(seeds)))
            for t in (1, true.shape[1] // 2, true.shape[1] - 1)
        ]
        rows.append((name, f"{predicted_survival(ARMS[name].base, spread, values):.2f}", *(f"{m:.2f}" for m in means)))
    return markdown(("arm", "predicted", "measured, frame 1", "middle frame", "last frame"), rows)
