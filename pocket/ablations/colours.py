"""Effect of zero terminal SNR in (b): how much of a video's mean colour is kept by sampling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...evaluation.intervals import middle_of
from ...evaluation.tables import markdown
from .arms import schedule_of
from .data import CHANNELS, judged_scenes, true_videos
from .measured import SPREAD, Rows, mean_colours
from .recipes import ARMS, HIGH, Base, Scale, Side

REPEATS = 1000  # of the bootstrap


def survival(made: np.ndarray, true: np.ndarray) -> float:
    """Return the slope, through the mean of the true ones, of made mean colours over true mean colours, both [n, 3].

    1: colours are as they should be. Below 1: they are drawn towards the mean of the data.
    """
    centre = true.mean(0)
    return float(((made - centre) * (true - centre)).sum() / np.square(true - centre).sum())


def predicted_survival(base: Base, spread: float, values: int) -> float:
    """Return the survival that an exact network has, for one Gaussian mode and exact steps.

    The mean of `values` latents of a video has the variance spread^2 values, in an orthonormal basis. Noise replaces
    what the last timestep would still hold of it, so the share sqrt(abar v / (abar v + 1 - abar)) is lost.
    """
    left = float(schedule_of(base).alphas_cumprod[-1])
    variance = spread**2 * values
    return 1 - math.sqrt(left * variance / (left * variance + 1 - left))


class Kept(NamedTuple):
    """Survival of the mean colours of one arm. frames: of each frame, [T, 3] as (survival, low, high)."""

    predicted: float
    frames: np.ndarray


def kept_colours(rows: Rows, names: Sequence[str], scale: Scale) -> dict[str, Kept]:
    """Return the survival of mean colours for arms that begin with true first frames, by name."""
    true = true_videos(judged_scenes(scale.prompts), HIGH).mean((2, 3))  # [prompts, T, 3]
    spread, values = rows[SPREAD]["value"], true.shape[1] * (HIGH // 8) ** 2
    found = {}
    for name in names:
        made = mean_colours(rows, Side(name), scale)
        frames = [survival_interval(made[:, :, t], true[:, t]) for t in range(true.shape[1])]
        found[name] = Kept(predicted_survival(ARMS[name].base, spread, values), np.array(frames))
    return found


def survival_interval(made: np.ndarray, true: np.ndarray) -> tuple[float, float, float]:
    """Return (survival, low, high) of made mean colours [seeds, prompts, 3], resampling prompts with replacement.

    true: [prompts, 3]. One prompt has no slope: all are NaN.
    """
    seeds, prompts = made.shape[:2]

    def of(chosen: np.ndarray) -> float:
        return survival(made[:, chosen].reshape(-1, CHANNELS), np.tile(true[chosen], (seeds, 1)))

    if prompts == 1:
        return math.nan, math.nan, math.nan
    rng = np.random.default_rng(0)
    drawn = [of(rng.integers(0, prompts, prompts)) for _ in range(REPEATS)]
    return of(np.arange(prompts)), *middle_of(drawn)


def colour_table(kept: Mapping[str, Kept]) -> str:
    """Return predicted and measured survival, with 95 % intervals over captions."""
    rows = []
    for name, (predicted, frames) in kept.items():
        shown = (frames[t] for t in (1, len(frames) // 2, -1))
        cells = ("none" if math.isnan(m) else f"{m:.2f} ({low:.2f} to {high:.2f})" for m, low, high in shown)
        rows.append((name, f"{predicted:.2f}", *cells))
    return markdown(("arm", "predicted", "measured, frame 1", "middle frame", "last frame"), rows)


def plot(kept: Mapping[str, Kept], path: Path) -> None:
    """Draw the measured survival of every frame, and the predicted one as a dashed line, one colour for each arm."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(6.4, 3.8), layout="constrained")
    axis = drawing.subplots()
    for number, (name, (predicted, frames)) in enumerate(kept.items()):
        mean, low, high = frames.T
        errors = None if np.isnan(low).any() else np.clip([mean - low, high - mean], 0, None)
        axis.errorbar(range(len(mean)), mean, errors, marker="o", capsize=3, color=f"C{number}", label=name)
        axis.axhline(predicted, color=f"C{number}", linestyle="--", label=f"{name}, predicted")
    axis.set_xlabel("frame")
    axis.set_ylabel("share of the mean colour that is kept")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=9)
    drawing.savefig(path, dpi=110)
