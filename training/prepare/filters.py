"""Emu Video's filter for high quality, as percentages: its thresholds depend on scores whose units it does not state.

The paper keeps clips that move at all times (motion vectors), whose first frame fits the caption (CLIP score > 0.25)
and looks good (aesthetic score > 5.7).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .candidate import Candidate
from .settings import Settings


def reasons(clips: Sequence[Candidate], settings: Settings) -> list[str]:
    """Return for every clip why it is left out, or ""."""
    found = [""] * len(clips)
    # Vectors and flow are different scales, so each clip is ranked among those that were measured as it was.
    for method in sorted({clip.motion_by for clip in clips}):
        rows = [row for row, clip in enumerate(clips) if clip.motion_by == method]
        scores = [clips[row].least_motion for row in rows]
        words = f"It stands still at some time: by {method} it is among the stillest {settings.stillest:g} %"
        _mark(found, rows, scores, settings.stillest, words)
    everything = list(range(len(clips)))
    for name, percent, words in (
        ("matching", settings.least_matching, "Its first frame does not fit its caption: it is among the worst"),
        ("aesthetic", settings.least_aesthetic, "Its first frame does not look good: it is among the worst"),
    ):
        if percent:
            _mark(found, everything, [getattr(clip, name) for clip in clips], percent, f"{words} {percent:g} %")
    return found


def _mark(found: list[str], rows: list[int], scores: list[float], percent: float, words: str) -> None:
    """Give `words` to the lowest `percent` of the scores. Ties go together, and stay."""
    threshold = np.percentile(scores, percent, method="higher") if rows and percent else -np.inf
    for row, score in zip(rows, scores, strict=True):
        if score < threshold and not found[row]:
            found[row] = f"{words} (score {score:.4g}, limit {threshold:.4g})."
