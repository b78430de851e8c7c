"""Which frames of a video become clips: resampling to a frame rate, and clips spread over the scenes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

MOST_REPEATED = 1 / 8  # of the steps between a clip's frames; more, and the clip would judder
EARLY = 1e-3  # seconds that a frame may come after the time it stands for: time stamps are rounded


@dataclass(frozen=True)
class Span:
    """The frames of one clip: their indices in the video, and its first and last moment in seconds."""

    frames: tuple[int, ...]
    start: float
    stop: float


class TooFewFrames(ValueError):
    """A video that gives no clip, with the reason."""


def clips(times: Sequence[float], cuts: Sequence[int], *, frames: int, fps: float, per_video: int = 0) -> list[Span]:
    """Return clips of `frames` frames at `fps` that neither overlap nor span a cut.

    Args:
        times: Seconds of every frame of the video, increasing.
        cuts: Indices of frames that begin a scene.
        per_video: How many clips, evenly spread over those that fit; 0 takes them all.

    Raises:
        TooFewFrames: No scene is long enough, or the video has fewer frames a second than the clips.
    """
    length = frames / fps
    scenes = _scenes(times, cuts)
    spans = []
    for first, last, end in scenes:
        # The last frame of a clip is shown for less than 1 / fps at the end of a scene, which does no harm.
        duration = end - times[first]
        fitting = int((duration - (frames - 1) / fps - EARLY) / length) + 1 if duration > (frames - 1) / fps else 0
        slack = max(0.0, duration - fitting * length) / 2
        for number in range(fitting):
            start = times[first] + slack + number * length
            spans.append(_span(times, start, first, last, frames, fps))
    if not spans:
        longest = max(end - times[first] for first, _, end in scenes)
        between = " between two cuts" if len(scenes) > 1 else ""
        raise TooFewFrames(
            f"Its longest stretch{between} is {longest:.2f} s; "
            f"a clip of {frames} frames at {fps:g} fps takes {length:.2f} s."
        )
    smooth = [span for span in spans if _repeated(span) <= MOST_REPEATED]
    if not smooth:
        raise TooFewFrames(
            f"It has too few frames a second: at {fps:g} fps, {_repeated(spans[0]):.0%} of a clip's frames would "
            "repeat the one before."
        )
    if 0 < per_video < len(smooth):
        smooth = [smooth[int((number + 0.5) * len(smooth) / per_video)] for number in range(per_video)]
    return smooth


def _scenes(times: Sequence[float], cuts: Sequence[int]) -> list[tuple[int, int, float]]:
    """First frame, last frame and end in seconds of every scene."""
    starts = sorted({0, *cuts})
    ends = [*starts[1:], len(times)]
    usual = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0
    return [
        (first, end - 1, times[end] if end < len(times) else times[-1] + usual)
        for first, end in zip(starts, ends, strict=True)
    ]


def _span(times: Sequence[float], start: float, first: int, last: int, frames: int, fps: float) -> Span:
    """The frame shown at each moment of a clip: the last one that began by then."""
    shown = [bisect_right(times, start + number / fps + EARLY) - 1 for number in range(frames)]
    return Span(tuple(min(max(index, first), last) for index in shown), start, start + frames / fps)


def _repeated(span: Span) -> float:
    """Share of a clip's steps that show the frame before once more."""
    pairs = list(zip(span.frames, span.frames[1:], strict=False))
    return sum(a == b for a, b in pairs) / len(pairs)
