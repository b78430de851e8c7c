"""Selection of the frames of clips: resampling to a frame rate, and clips spread over the scenes of a video."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

MOST_REPEATED = 1 / 8  # highest share of repeated frames in a clip; with more, it would judder
EARLY = 1e-3  # seconds that a frame may be late, because time stamps are rounded


@dataclass(frozen=True)
class Span:
    """Indices of a clip's frames in the video, and start and end of the clip in seconds."""

    frames: tuple[int, ...]
    start: float
    stop: float


class TooFewFrames(ValueError):
    """Error with the reason why no clip can be taken from a video."""


def clips(times: Sequence[float], cuts: Sequence[int], *, frames: int, fps: float, per_video: int = 0) -> list[Span]:
    """Return clips of `frames` frames at `fps` that neither overlap nor span a cut.

    Args:
        times: Time of every frame of the video in seconds, increasing.
        cuts: Indices of the frames that begin a scene.
        per_video: Number of clips, evenly spread over those that fit; 0 takes all.

    Raises:
        TooFewFrames: No scene is long enough, or the frame rate of the video is too low.
    """
    length = frames / fps
    scenes = _scenes(times, cuts)
    spans = []
    for first, last, end in scenes:
        # The last frame of a clip may be shorter than 1 / fps, so a clip may end that close to the end of a scene.
        duration = end - times[first]
        fitting = int((duration - (frames - 1) / fps - EARLY) / length) + 1 if duration > (frames - 1) / fps else 0
        slack = max(0.0, duration - fitting * length) / 2
        for number in range(fitting):
            start = times[first] + slack + number * length
            spans.append(_span(times, start, first=first, last=last, frames=frames, fps=fps))
    if not spans:
        longest = max(end - times[first] for first, _, end in scenes)
        between = " between two cuts" if len(scenes) > 1 else ""
        raise TooFewFrames(
            f"Its longest part{between} is {longest:.2f} s, but a clip of {frames} frames at {fps:g} fps needs "
            f"{length:.2f} s: use fewer frames or a higher frame rate."
        )
    smooth = [span for span in spans if _repeated(span) <= MOST_REPEATED]
    if not smooth:
        raise TooFewFrames(
            f"Its frame rate is too low: at {fps:g} fps, {_repeated(spans[0]):.0%} of a clip's frames would repeat "
            "the previous one. Use a lower frame rate."
        )
    if 0 < per_video < len(smooth):
        smooth = [smooth[int((number + 0.5) * len(smooth) / per_video)] for number in range(per_video)]
    return smooth


def _scenes(times: Sequence[float], cuts: Sequence[int]) -> list[tuple[int, int, float]]:
    """Return first frame, last frame and end in seconds of every scene."""
    starts = sorted({0, *cuts})
    ends = [*starts[1:], len(times)]
    usual = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0
    return [
        (first, end - 1, times[end] if end < len(times) else times[-1] + usual)
        for first, end in zip(starts, ends, strict=True)
    ]


def _span(times: Sequence[float], start: float, *, first: int, last: int, frames: int, fps: float) -> Span:
    """Return the clip from `start`, with the frame that is shown at each of its times."""
    shown = [bisect_right(times, start + number / fps + EARLY) - 1 for number in range(frames)]
    return Span(tuple(min(max(index, first), last) for index in shown), start, start + frames / fps)


def _repeated(span: Span) -> float:
    """Return the share of a clip's frames that repeat the previous one."""
    pairs = list(zip(span.frames, span.frames[1:], strict=False))
    return sum(a == b for a, b in pairs) / len(pairs)
