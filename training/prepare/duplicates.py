"""Detection of clips that look like an earlier one."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

CELLS = 8  # cells along each side of a frame
FRAMES = 3  # frames of a clip that are compared: first, middle, last
NEAR = 12  # difference, of 255, up to which cells are equal; another size or encoder changes less


def look(image: np.ndarray) -> np.ndarray:
    """Return the mean colours of an 8x8 grid over a frame, uint8 [8, 8, 3]; image: uint8 RGB [h, w, 3]."""
    import cv2

    return cv2.resize(np.ascontiguousarray(image), (CELLS, CELLS), interpolation=cv2.INTER_AREA)


class Duplicates:
    """Search for earlier clips that look the same. It stores 576 bytes per clip.

    A perceptual hash of 128 bits in eight bands finds candidates: if two hashes differ in at most seven bits, at least
    one band is equal. Then the colours are compared, so small shapes of different colours are not duplicates.
    """

    def __init__(self):
        self._looks: list[np.ndarray] = []
        self._names: list[str] = []
        self._bands: dict[tuple[int, int], list[int]] = defaultdict(list)

    def earlier(self, looks: np.ndarray, name: str) -> str | None:
        """Return the name of an earlier clip that looks the same. If there is none, store this clip and return None.

        looks: uint8 [3, 8, 8, 3], `look` of the clip's first, middle and last frame.
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
    """Return eight bands of 16 bits: which cells are brighter than the median, and which than their right neighbour."""
    grey = looks.astype(float).mean((0, 3))  # mean over time, so that moving shapes count
    above = grey > np.median(grey) + NEAR / 4
    falling = grey > np.roll(grey, -1, 1) + NEAR / 4
    return np.packbits([above, falling]).view(">u2").tolist()
