"""Scene cuts, by PySceneDetect."""

from __future__ import annotations

from collections import deque
from fractions import Fraction

import numpy as np

NEEDED = "Finding scene cuts needs PySceneDetect: pip install scenedetect-headless"
WINDOW = 2  # frames on each side that a cut has to stand out from
FADE = 40.0  # change of hue, saturation and luma, of 255, that is a cut even among others: a fade through black
SAME = 0.5  # mean difference, of 255, below which a frame repeats the one before


def check() -> None:
    """Raise RuntimeError where PySceneDetect is not installed."""
    try:
        import scenedetect  # noqa: F401
    except ImportError as error:
        raise RuntimeError(NEEDED) from error


class Cuts:
    """Finds cuts in frames that are passed in one by one.

    A cut is a change that stands out from those around it, so fast motion is none, or a very large one. Every cut
    counts, however short the scene. The detector compares with two changes before and after. To have them at both ends
    of a video, too, it sees the first and the last frames once more in reverse. It does not see repeated frames, so
    that a video drawn at a lower rate is no series of cuts. It sees numbers as times, so a variable frame rate makes no
    difference.
    """

    def __init__(self):
        from scenedetect import AdaptiveDetector, ContentDetector, FrameTimecode

        self._timecode = FrameTimecode
        self._detectors = (
            AdaptiveDetector(window_width=WINDOW, min_scene_len=0),
            ContentDetector(threshold=FADE, min_scene_len=0),
        )
        self._shown: list[int | None] = []  # index of each frame that the detector saw; None: in reverse
        self._found: list[int | None] = []
        self._recent: deque[tuple[int, np.ndarray]] = deque(maxlen=WINDOW + 1)

    def add(self, index: int, image: np.ndarray) -> None:
        """image: uint8 RGB [h, w, 3], of one size for all frames."""
        image = np.ascontiguousarray(image[..., ::-1])
        if self._recent and np.abs(image.astype(np.int16) - self._recent[-1][1]).mean() < SAME:
            return
        self._recent.append((index, image))
        if self._shown:
            self._show(index, image)
        elif len(self._recent) == WINDOW + 1:
            for _, later in list(self._recent)[:0:-1]:
                self._show(None, later)
            for number, first in self._recent:
                self._show(number, first)

    def _show(self, index: int | None, image: np.ndarray) -> None:
        at = self._timecode(len(self._shown), Fraction(25))
        self._shown.append(index)
        for detector in self._detectors:
            self._found += [self._shown[cut.frame_num] for cut in detector.process_frame(at, image)]

    def finish(self) -> list[int]:
        """Return the indices of frames that begin a scene."""
        for _, earlier in list(self._recent)[-2::-1]:
            self._show(None, earlier)
        return sorted({index for index in self._found if index})
