"""Settings of the preparation of a dataset, and its notes on files."""

from __future__ import annotations

from dataclasses import dataclass

SCANS = "scans.jsonl"
"""File of a dataset with what was found out about each video."""
VERSION = 1  # increase it when code in this folder changes the contents of clips; existing shards are then made again
MOST_FPS = 1000  # frames per second of a clip; a scan takes time for every one


@dataclass(frozen=True)
class Settings:
    """Settings of the clips.

    Args:
        frames: Frames per clip.
        fps: Frames per second of a clip.
        width, height: Size of a clip in pixels. With `buckets`, their product is the largest area of a bucket.
        per_video: Clips per video, evenly spread; 0 takes all that fit without overlap.
        buckets: Keep the aspect ratio of each video (nearest bucket). Otherwise all are cropped to one size.
        names_as_captions: Use the file name as caption if a video has none.
        keep_duplicates: Keep clips that look like an earlier one.
        downscale: Factor of super-resolution. Clips are also encoded from a version that is smaller by this factor; 1
            encodes only the clips themselves.
        stillest: Percentage of clips to leave out because they almost stop at some point (Emu Video's motion filter).
        least_matching: Percentage of clips to leave out because of the lowest CLIP score of first frame and caption.
        least_aesthetic: Percentage of clips to leave out because of the lowest aesthetic score of the first frame.
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
            raise ValueError(f"frames is {self.frames}, but a clip needs at least 2 frames: use 2 or more.")
        if not 0 < self.fps <= MOST_FPS:
            raise ValueError(f"The frame rate is {self.fps}: use a number above 0, at most {MOST_FPS}.")
        if min(self.width, self.height) < 1:
            raise ValueError(f"The size of the clips is {self.width}x{self.height}: use a width and height above 0.")
        if self.per_video < 0:
            raise ValueError(f"per_video is {self.per_video}: use 0 for all clips, or 1 or more.")
        if self.downscale < 1:
            raise ValueError(f"downscale is {self.downscale}: use 1 for none, or the factor of super-resolution.")
        for name in ("stillest", "least_matching", "least_aesthetic"):
            if not 0 <= getattr(self, name) < 100:
                raise ValueError(f"{name} is {getattr(self, name)}: use a percentage of at least 0 and below 100.")


@dataclass(frozen=True)
class Note:
    """Reason why a file or clip was left out, or a problem of one that was used (`left_out` is False)."""

    source: str
    reason: str
    start: float | None = None  # seconds, if the note is about one clip
    left_out: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", printable(self.source))
        object.__setattr__(self, "reason", printable(self.reason))


def printable(text: str) -> str:
    """Return the text with ? for what is not Unicode, such as half of an emoji or a file name in another encoding."""
    return text.encode("utf-8", "replace").decode()
