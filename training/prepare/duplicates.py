"""Clips that look like an earlier one."""

from __future__ import annotations

from collections import defaultdict

import cv2
import numpy as np

CELLS = 8  # along each side of a frame's look
FRAMES = 3  # of a clip: first, middle, last
NEAR = 12  # of 255, in every cell: what another size or encoder changes


def look(image: np.ndarray) -> np.ndarray:
    """Return the mean colours of an 8x8 grid over a frame, uint8 [8, 8, 3]; image: uint8 RGB [h, w, 3]."""
    return cv2.resize(np.ascontiguousarray(image), (CELLS, CELLS), interpolation=cv2.INTER_AREA)


class Duplicates:
    """Remembers the looks of clips, in 576 bytes a clip, and finds an earlier clip that looks the same.

    A perceptual hash finds candidates: of two clips that agree in all but seven of its 128 bits, one of eight bands is
    equal. The looks themselves decide, so that small shapes of other colours on one background stay apart.
    """

    def __init__(self):
        self._looks: list[np.ndarray] = []
        self._names: list[str] = []
        self._bands: dict[tuple[int, int], list[int]] = defaultdict(list)

    def earlier(self, looks: np.ndarray, name: str) -> str | None:
        """Return the name of an earlier clip that looks like this one, or remember this one and return None.

        looks: uint8 [3, 8, 8, 3], of its first, middle and last frame.
        """
        keys = list(enumerate(_hash(looks)))
        candidates = sorted({number for key in keys for number in self._bands[key]})
        for start in range(0, len(candidates), 4096):
            some = candidates[start : start + 4096]
            apart = np.abs(np.stack([self._looks[number] for number in some]).astype(np.int16) - looks)
            near = np.flatnonzero(apart.reshape(len(some), -1).max(1) <= NEAR)
            if len(near):
                return self._names[some[near[0]]]
        for key in keys:
            self._bands[key].append(len(self._looks))
        self._looks.append(looks)
        self._names.append(name)
        return None


def _hash(looks: np.ndarray) -> list[int]:
    """Eight bands of 16 bits: which cells are brighter than the median, and which than the cell to their right."""
    grey = looks.astype(float).mean((0, 3))  # the average over time: a moving shape leaves its trace
    above = grey > np.median(grey) + NEAR / 4
    falling = grey > np.roll(grey, -1, 1) + NEAR / 4
    return np.packbits([above, falling]).view(">u2").tolist()
