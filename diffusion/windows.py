"""Layouts: positions of the given frames and of the sampled windows in a video, and the joining of windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from .known_frames import interleave, place

WINDOW = 8  # given frames of one window, as in Emu Video's interpolation


@dataclass(frozen=True)
class Window:
    """`frames` frames that are sampled together, starting at frame `start` of the video. given: indices of their known
    frames."""

    start: int
    frames: int
    given: range

    @property
    def span(self) -> slice:
        """Return the window's frame numbers in the whole video."""
        return slice(self.start, self.start + self.frames)


@dataclass(frozen=True)
class Layout:
    """A video of `frames` frames. Given frame i is at positions[i], and the windows are sampled one by one."""

    frames: int
    positions: tuple[int, ...]
    windows: tuple[Window, ...]

    def place(self, latents: Tensor, window: Window) -> tuple[Tensor, Tensor]:
        """Return known latents and mask of a window. latents: [n, C, h, w] of its given frames."""
        return place(latents, [self.positions[i] - window.start for i in window.given], window.frames)

    def join(self, videos: Sequence[Tensor], given: Tensor | None = None) -> Tensor:
        """Join the windows' frames [T, ...] to the whole video [frames, ...].

        given: frames [n, ...] that replace the sampled ones at their positions.

        Raises:
            ValueError: for frames whose number or size differs from the layout's.
        """
        self._check(videos, given)
        joined = videos[0].new_zeros(self.frames, *videos[0].shape[1:])
        for begin, window, video in zip(self._takeovers(), self.windows, videos, strict=True):
            joined[begin : window.span.stop] = video[begin - window.start :]
        if given is not None:
            # In the paper's seam two given frames share a position: the later one stays, as its window does.
            last = {position: i for i, position in enumerate(self.positions)}
            joined[list(last)] = given[list(last.values())].to(joined)
        return joined

    def blend(self, parts: Sequence[Tensor], dim: int) -> Tensor:
        """Join the windows along any dimension, with a linear cross-fade where a window overlaps the one before it."""
        parts = [part.movedim(dim, 0) for part in parts]
        joined = parts[0].new_zeros(self.frames, *parts[0].shape[1:])
        end = 0
        for window, part in zip(self.windows, parts, strict=True):
            shared = max(0, end - window.start)
            weights = torch.arange(1, shared + 1, device=part.device, dtype=part.dtype) / (shared + 1)
            weights = weights.reshape(-1, *[1] * (part.ndim - 1))
            joined[window.start : window.start + shared].lerp_(part[:shared], weights)
            joined[window.start + shared : window.span.stop] = part[shared:]
            end = window.span.stop
        return joined.movedim(0, dim)

    def _takeovers(self) -> list[int]:
        """Return the first frame that each window contributes.

        A window takes over half-way between the previous window's last given frame and its own first one. So every new
        frame comes from the window whose given frames are closer.
        """
        last_known = [self.positions[window.given[-1]] for window in self.windows[:-1]]
        first_known = [self.positions[window.given[0]] for window in self.windows[1:]]
        halfway = [(last + first + 1) // 2 for last, first in zip(last_known, first_known, strict=True)]
        return [self.windows[0].start, *halfway]

    def _check(self, videos: Sequence[Tensor], given: Tensor | None) -> None:
        lengths = [window.frames for window in self.windows]
        if [len(video) for video in videos] != lengths:
            raise ValueError(f"Expected {_videos(lengths)}, got {_videos([len(video) for video in videos])}.")
        if given is None and self.windows[0].start > 0:
            raise ValueError("The video that was extended is missing.")
        if given is not None and len(given) != len(self.positions):
            raise ValueError(f"The layout is for {len(self.positions)} given frames, got {len(given)}.")
        sizes = {tuple(video.shape[1:]) for video in (*videos, *(() if given is None else (given,)))}
        if len(sizes) > 1:
            found = " and ".join(sorted("x".join(map(str, reversed(size[:2]))) for size in sizes))
            raise ValueError(f"All frames must have the same size, but there are {found}.")


def interpolated(
    count: int, factor: int, margins: tuple[int, int], window: int = WINDOW, paper: bool = False
) -> Layout:
    """Lay out `count` given frames, interleaved with new ones, in windows of at most `window` given frames.

    All windows hold the same number of given frames, so the last one may overlap the one before it.

    paper: join as Emu Video words it (the last five frames of the first half and the first four of the second are
    dropped): 8 + 8 frames give 65 instead of 69, one given frame is lost, and time jumps by 5 frames at the seam.
    """
    if count < 2:
        raise ValueError(f"Interpolation needs at least 2 frames, got {count}.")
    if window < 2:
        raise ValueError(f"A window needs at least 2 given frames, got {window}.")
    size = min(window, count)
    positions, frames = interleave(size, factor, margins)
    if paper and count % size:
        raise ValueError(f"The paper's seam needs a multiple of {size} frames, got {count}: use the continuous seam.")
    # With margins below half of the gap, frames between two windows are not sampled, unless the windows share a frame.
    margins_fill_the_gap = margins[0] >= factor // 2 and margins[1] >= (factor - 1) // 2
    shared = 0 if paper or margins_fill_the_gap else 1
    # The last window ends with the last given frame, even if it then overlaps the window before it.
    first_given = [*range(0, count - size, size - shared), count - size]
    # In the paper's seam, each window begins one factor earlier than continuous time would have it.
    windows = tuple(
        Window((first - index if paper else first) * factor, frames, range(first, first + size))
        for index, first in enumerate(first_given)
    )
    position_of = {i: window.start + p for window in windows for i, p in zip(window.given, positions, strict=True)}
    return Layout(windows[-1].start + frames, tuple(position_of[i] for i in range(count)), windows)


def known_at(positions: Sequence[int], frames: int) -> Layout:
    """Lay out given frame i at positions[i] of a video of `frames` frames; a negative position counts from its end."""
    wrong = [p for p in positions if not -frames <= p < frames]
    if wrong:
        raise ValueError(f"A video of {frames} frames has no frame {wrong[0]}: use positions from 0 to {frames - 1}.")
    places = tuple(p % frames for p in positions)
    if len(set(places)) < len(places):
        raise ValueError(
            f"The positions {', '.join(map(str, positions))} contain a frame twice: write each frame once."
        )
    if not 1 <= len(places) < frames:
        raise ValueError(
            f"{len(places)} of {frames} frames are given: give at least one, and leave at least one to be sampled."
        )
    return Layout(frames, places, (Window(0, frames, range(len(places))),))


def extended(count: int, known: int, frames: int) -> Layout:
    """Lay out a video of `count` frames and its continuation: its last `known` frames begin a new window of `frames`
    frames."""
    if not 1 <= known <= count:
        choice = "1" if count == 1 else f"a number from 1 to {count}"
        raise ValueError(
            f"The video has {count} frame{'s' * (count != 1)}, but known is {known}: set known to {choice}."
        )
    if frames <= known:
        raise ValueError(f"A clip of {frames} frames, {known} of them known, adds nothing: set frames above {known}.")
    start = count - known
    return Layout(start + frames, tuple(range(count)), (Window(start, frames, range(start, count)),))


@runtime_checkable
class Joinable(Protocol):
    """A layout whose sampled windows can be joined: in time, or in time and space."""

    @property
    def windows(self) -> Sequence[Any]: ...

    def join(self, videos: Sequence[Tensor], given: Tensor | None = None) -> Tensor: ...


def join_all(layouts: Sequence[Joinable], videos: Sequence[Tensor], given: Sequence[Tensor] = ()) -> list[Tensor]:
    """Join several videos, whose windows follow each other in `videos`.

    given: frames for each video, one set for all videos, or none.

    Raises:
        ValueError: if there are too few or too many windows or given frames.
    """
    if len(given) == 1:
        given = [*given] * len(layouts)
    if given and len(given) != len(layouts):
        raise ValueError(f"There are {len(layouts)} layouts, but given frames for {len(given)} videos.")
    joined, begin = [], 0
    for i, layout in enumerate(layouts):
        end = len(videos) if i == len(layouts) - 1 else begin + len(layout.windows)
        joined.append(layout.join(videos[begin:end], given[i] if given else None))
        begin = end
    return joined


def _videos(lengths: list[int]) -> str:
    if len(set(lengths)) == 1:
        return f"{len(lengths)} x {lengths[0]} frames"
    return f"{', '.join(map(str, lengths)) or 'no'} frames"
