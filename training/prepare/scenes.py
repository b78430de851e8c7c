"""Detection of scene cuts with PySceneDetect."""

from __future__ import annotations

from collections import deque
from fractions import Fraction

import numpy as np

NEEDED = "The package PySceneDetect, which finds scene cuts, is not installed: run pip install scenedetect-headless."
WINDOW = 2  # changes on each side with which a change is compared
FADE = 40.0  # change of hue, saturation and luma, of 255, above which it is always a cut, as in a fade through black
SAME = 0.5  # mean difference, of 255, below which a frame repeats the previous one


def check() -> None:
    """Raise RuntimeError if PySceneDetect is not installed."""
    try:
        import scenedetect  # noqa: F401
    except ImportError as error:
        raise RuntimeError(NEEDED) from error


class Cuts:
    """Cut detector, to which frames are passed one by one.

    A cut is a change that is much larger than the two changes before and after it, so fast motion is not a cut. A very
    large change is always a cut. Scenes may have any length.

    PySceneDetect gets the first and the last frames also in reverse order, so that the ends of a video have neighbours.
    It does not get repeated frames, so a video with a lower rate of distinct frames has no false cuts. It gets frame
    numbers instead of times, so a variable frame rate has no effect.
    """

    def __init__(self):
        from scenedetect import AdaptiveDetector, ContentDetector, FrameTimecode

        self._timecode = FrameTimecode
        self._detectors = (
            AdaptiveDetector(window_width=WINDOW, min_scene_len=0),
            ContentDetector(threshold=FADE, min_scene_len=0),
        )
        self._shown: list[int | None] = []  # index of each frame that the detectors got; None in reverse order
        self._found: list[int | None] = []
        self._recent: deque[tuple[int, np.ndarray]] = deque(maxlen=WINDOW + 1)

    def add(self, index: int, image: np.ndarray) -> None:
        """Add a frame. image: uint8 RGB [h, w, 3], with the same size for all frames."""
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
        """Return the indices of the frames that begin a scene."""
        for _, earlier in list(self._recent)[-2::-1]:
            self._show(None, earlier)
        return sorted({index for index in self._found if index})
