"""Survival of mean colours in (b): measured and predicted, as a table and as a plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...evaluation.intervals import interval_text, middle_of
from ...evaluation.tables import markdown
from .data import judged_scenes, true_videos
from .measured import PREDICTED, Rows, mean_colours
from .recipes import ARMS, HIGH, Scale, Side
from .survival import CHANNELS, survival

REPEATS = 1000  # of the bootstrap


class Kept(NamedTuple):
    """Survival of the mean colours of one arm by frame. predicted: [T]. frames: [T, 3] as (survival, low, high)."""

    predicted: np.ndarray
    frames: np.ndarray


def kept_colours(rows: Rows, names: Sequence[str], scale: Scale) -> dict[str, Kept]:
    """Return the survival of mean colours for arms that begin with true first frames, by name."""
    true = true_videos(judged_scenes(scale.prompts), HIGH).mean((2, 3))  # [prompts, T, 3]
    found = {}
    for name in names:
        made = mean_colours(rows, Side(name), scale)
        frames = [survival_interval(made[:, :, t], true[:, t]) for t in range(true.shape[1])]
        found[name] = Kept(np.array(rows[PREDICTED][ARMS[name].base.name]), np.array(frames))
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
    """Return measured survival, with 95 % intervals over captions, and the predicted one, of three frames."""
    rows = []
    for name, (predicted, frames) in kept.items():
        shown = 1, len(frames) // 2, -1
        rows.append((name, "measured", *(interval_text(*frames[t]) for t in shown)))
        rows.append((name, "predicted", *(interval_text(predicted[t]) for t in shown)))
    return markdown(("arm", "", "frame 1", "middle frame", "last frame"), rows)


def plot(kept: Mapping[str, Kept], path: Path) -> None:
    """Draw the measured survival of every frame, and the predicted one dashed, one colour for each arm.

    The dashes of one line are in the gaps of the others, so that equal predictions are all seen.
    """
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(6.4, 4.6), layout="constrained")
    axis = drawing.subplots()
    for number, (name, (predicted, frames)) in enumerate(kept.items()):
        mean, low, high = frames.T
        errors = None if np.isnan(low).any() else np.clip([mean - low, high - mean], 0, None)
        axis.errorbar(range(len(mean)), mean, errors, marker="o", capsize=3, color=f"C{number}", label=name)
        dashes = (4 * number, (4, 4 * max(1, len(kept) - 1)))
        axis.plot(predicted, color=f"C{number}", linestyle=dashes, label=f"{name}, predicted")
    axis.set_xlabel("frame")
    axis.set_ylabel("share of the mean colour that is kept")
    axis.spines[["top", "right"]].set_visible(False)
    drawing.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    drawing.savefig(path, dpi=110)
