"""Settings of a preparation, and the notes that it makes on the way."""

from __future__ import annotations

from dataclasses import dataclass

VERSION = 1  # of everything in this folder that decides what a clip contains; another number makes shards again


@dataclass(frozen=True)
class Settings:
    """What clips to make.

    Args:
        frames: Frames T of one clip.
        fps: Frames per second of a clip.
        width, height: Size of a clip in pixels; with `buckets`, the area that each bucket keeps to.
        per_video: Clips taken from one video, evenly spread over it; 0 takes all that fit without overlap.
        buckets: Keep the aspect ratio of each video (to the nearest bucket) instead of cropping all to one.
        names_as_captions: Use a video's file name as its caption where it has none.
        keep_duplicates: Keep clips that look like an earlier one.
        downscale: Factor of super-resolution: clips are also encoded from a version smaller by this factor. 1: they are
            not.
        stillest: Percentage of clips to leave out, those that stand still at some time (Emu Video's motion filter).
        least_matching: Percentage of clips to leave out, those whose first frame fits the caption least (CLIP score).
        least_aesthetic: Percentage of clips to leave out, those whose first frame scores lowest.
    """

    frames: int = 8
    fps: float = 8.0
    width: int = 512
    height: int = 512
    per_video: int = 0
    buckets: bool = False
    names_as_captions: bool = False
    keep_duplicates: bool = False
    downscale: int = 1
    stillest: float = 0.0
    least_matching: float = 0.0
    least_aesthetic: float = 0.0

    def __post_init__(self):
        if self.frames < 2:
            raise ValueError(f"A clip of {self.frames} frame(s) has no motion: use 2 frames or more.")
        if not self.fps > 0:
            raise ValueError(f"The frame rate is {self.fps}: use a number above 0.")
        if min(self.width, self.height) < 1:
            raise ValueError(f"A clip of {self.width}x{self.height} has no pixels.")
        if self.per_video < 0:
            raise ValueError(f"{self.per_video} clips a video make no sense: use 0 for all, or 1 and more.")
        if self.downscale < 1:
            raise ValueError(f"downscale is {self.downscale}: use 1 for none, or the factor of super-resolution.")
        for name in ("stillest", "least_matching", "least_aesthetic"):
            if not 0 <= getattr(self, name) < 100:
                raise ValueError(f"{name} is {getattr(self, name)}: use a percentage from 0 to below 100.")


@dataclass(frozen=True)
class Note:
    """A file, or a clip of it, that was left out, or used with a reservation, and why."""

    source: str
    reason: str
    start: float | None = None  # seconds, where the note is about one clip
    left_out: bool = True
