"""Emu Video's filters for high-quality clips.

The paper keeps clips that always move (motion vectors), whose first frame matches the caption (CLIP score > 0.25) and
looks good (aesthetic score > 5.7). The paper does not state the unit of all scores, so percentages are used instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .candidate import Candidate
from .settings import Settings


def reasons(clips: Sequence[Candidate], settings: Settings) -> list[str]:
    """Return for each clip the reason why it is left out, or ""."""
    found = [""] * len(clips)
    # Vectors and flow have different scales, so clips are ranked separately for each method.
    for method in sorted({clip.motion_by for clip in clips}):
        rows = [row for row, clip in enumerate(clips) if clip.motion_by == method]
        scores = [clips[row].least_motion for row in rows]
        words = f"It almost stops at some point: by {method} it is in the stillest {settings.stillest:g} %"
        _mark(found, rows, scores, settings.stillest, words)
    everything = list(range(len(clips)))
    for name, percent, words in (
        ("matching", settings.least_matching, "Its first frame does not match its caption: it is in the worst"),
        ("aesthetic", settings.least_aesthetic, "Its first frame does not look good: it is in the worst"),
    ):
        if percent:
            _mark(found, everything, [getattr(clip, name) for clip in clips], percent, f"{words} {percent:g} %")
    return found


def _mark(found: list[str], rows: list[int], scores: list[float], percent: float, words: str) -> None:
    """Write `words` into `found` for the lowest `percent` of the scores. Clips tied at the limit are kept."""
    threshold = np.percentile(scores, percent, method="higher") if rows and percent else -np.inf
    for row, score in zip(rows, scores, strict=True):
        if score < threshold and not found[row]:
            found[row] = f"{words} (score {score:.4g}, limit {threshold:.4g})."
