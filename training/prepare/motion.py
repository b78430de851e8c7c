"""Amount of motion in a video, from H.264 motion vectors (Emu Video) or from optical flow.

The unit is frame diagonals per second, which is independent of size and frame rate. The two methods give different
values, because an encoder chooses vectors that are cheap to store. Compare only scores of the same method.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from .decode import Frame

VECTORS, FLOW = "motion vectors", "optical flow"
SMALL = 96  # pixels of the longer side, for optical flow
WINDOW = 6  # consecutive frames of a clip over which Emu Video measures motion


class Motion:
    """Measurement of motion, to which frames are passed one by one."""

    def __init__(self):
        import cv2

        self._times: list[float] = []
        self._kinds: list[str] = []
        self._past: list[float] = []  # mean length of vectors to earlier frames, in diagonals; nan without vectors
        self._future: list[float] = []
        self._flow: list[float] = []
        self._before: np.ndarray | None = None
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def add(self, frame: Frame, image: np.ndarray, use_vectors: bool) -> None:
        """Add a frame. image: the frame at any size, uint8 RGB [h, w, 3]."""
        self._times.append(frame.time)
        self._kinds.append(frame.kind)
        if use_vectors:
            past, future = _vector_lengths(frame)
            self._past.append(past)
            self._future.append(future)
        else:
            self._flow.append(self._flow_to(image))

    def speeds(self) -> tuple[np.ndarray, str]:
        """Return the speed of every frame in diagonals per second, and the method. Gaps are interpolated."""
        if self._past:
            steps, method = _by_distance(self._kinds, self._past, self._future), VECTORS
        else:
            steps, method = np.array(self._flow), FLOW
        gaps = np.diff(np.array(self._times), prepend=np.nan)
        usual = float(np.nanmedian(gaps)) if len(gaps) > 1 else 1.0
        # Vectors are per frame, not per second. With a variable frame rate, the median distance of frames is used.
        speeds = steps / (usual if method == VECTORS else np.where(np.isnan(gaps), usual, gaps))
        known = np.isfinite(speeds)
        if not known.any():
            return np.zeros(len(speeds)), method
        places = np.arange(len(speeds))
        return np.interp(places, places[known], speeds[known]), method

    def _flow_to(self, image: np.ndarray) -> float:
        """Return the mean displacement since the previous frame, in diagonals."""
        import cv2

        scale = SMALL / max(image.shape[:2])
        size = tuple(max(16, round(side * scale)) for side in (image.shape[1], image.shape[0]))
        grey = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        before, self._before = self._before, grey
        if before is None:
            return math.nan
        flow = self._dis.calc(before, grey, None)  # pyright: ignore[reportCallIssue, reportArgumentType]
        return float(np.linalg.norm(flow, axis=-1).mean() / math.hypot(*size))


def _vector_lengths(frame: Frame) -> tuple[float, float]:
    """Return the mean lengths of vectors to earlier and to later frames, weighted by block area, in diagonals."""
    if frame.vectors is None or not len(frame.vectors):
        return math.nan, math.nan
    table = frame.vectors
    scale = np.maximum(table["motion_scale"], 1)
    lengths = np.hypot(table["motion_x"] / scale, table["motion_y"] / scale) / math.hypot(*frame.size)
    areas = table["w"].astype(float) * table["h"]
    past = table["source"] < 0
    return tuple(  # pyright: ignore[reportReturnType]
        float((lengths[side] * areas[side]).sum() / areas[side].sum()) if side.any() else math.nan
        for side in (past, ~past)
    )


def _by_distance(kinds: Sequence[str], past: Sequence[float], future: Sequence[float]) -> np.ndarray:
    """Return the displacement per frame: each length divided by the distance to the reference frame.

    FFmpeg states only whether the reference is earlier or later. The nearest I or P frame is assumed.
    """
    count = len(kinds)
    anchors = [index for index in range(count) if kinds[index] != "B"]
    before = np.searchsorted(anchors, np.arange(count), side="left") - 1
    after = np.searchsorted(anchors, np.arange(count), side="right")
    steps = np.full(count, np.nan)
    for index in range(count):
        values = []
        if before[index] >= 0:
            values.append(past[index] / (index - anchors[before[index]]))
        if after[index] < len(anchors):
            values.append(future[index] / (anchors[after[index]] - index))
        values = [value for value in values if math.isfinite(value)]
        if values:
            steps[index] = sum(values) / len(values)
    return steps


def of_clip(speeds: np.ndarray, frames: Sequence[int]) -> tuple[float, float]:
    """Return the mean speed of a clip, and its lowest mean speed over six consecutive frames.

    Emu Video uses the second, because a clip should always move, not only on average.
    """
    # Frames of the video between two frames of the clip count, too.
    steps = np.array([speeds[a + 1 : b + 1].mean() if b > a else 0.0 for a, b in pairwise(frames)])
    window = min(WINDOW, len(steps))
    return float(steps.mean()), float(np.convolve(steps, np.full(window, 1 / window), "valid").min())
