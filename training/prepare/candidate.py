"""A candidate clip: its place in a video, and its properties before it is encoded."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np


@dataclass
class Candidate:
    """A part of a video that may become a training clip.

    Args:
        source: Name of the source, as in `Source.name`.
        caption: Caption of the source.
        frames: Indices of its frames in the video; an index may be repeated.
        start, stop: Start and end in the video, in seconds.
        size: Width and height of the video in pixels.
        motion: Mean speed, in frame diagonals per second.
        least_motion: Lowest mean speed over six consecutive frames.
        motion_by: Method that measured both speeds.
        looks: `duplicates.look` of three frames, as hexadecimal digits.
        matching: CLIP score of first frame and caption, or None if it was not computed.
        aesthetic: Aesthetic score of the first frame, or None if it was not computed.
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
        """Return `looks` as uint8 [3, 8, 8, 3]."""
        return np.frombuffer(bytes.fromhex(self.looks), np.uint8).reshape(3, 8, 8, 3)

    def facts(self) -> dict:
        """Return the entry of the clip in the index of the dataset, as JSON values."""
        left_out = "frames", "looks"
        return {key: value for key, value in asdict(self).items() if key not in left_out and value is not None}
