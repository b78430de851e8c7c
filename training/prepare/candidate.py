"""One clip: where it comes from, and what is known of it before it is encoded."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np


@dataclass
class Candidate:
    """A stretch of a video that becomes training frames.

    Args:
        source: Name of the source, as in `Source.name`.
        caption: Its text.
        frames: Indices of its frames in the video; an index may come twice.
        start, stop: Seconds in the video.
        size: Width and height of the video in pixels.
        motion: Mean speed, in frame diagonals per second.
        least_motion: Least mean speed over six frames in a row.
        motion_by: The method of both.
        looks: Hexadecimal digits of `duplicates.look` of three frames.
        matching: CLIP score of first frame and caption, where it was asked for.
        aesthetic: Aesthetic score of the first frame, where it was asked for.
    """

    source: str
    caption: str
    frames: tuple[int, ...]
    start: float
    stop: float
    size: tuple[int, int]
    motion: float
    least_motion: float
    motion_by: str
    looks: str
    matching: float | None = None
    aesthetic: float | None = None

    def look_array(self) -> np.ndarray:
        """uint8 [3, 8, 8, 3]."""
        return np.frombuffer(bytes.fromhex(self.looks), np.uint8).reshape(3, 8, 8, 3)

    def facts(self) -> dict:
        """Return the entry of the clip in the index of the dataset, as JSON values."""
        left_out = "frames", "looks"
        return {key: value for key, value in asdict(self).items() if key not in left_out and value is not None}
