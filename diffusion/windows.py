"""A video that is sampled in windows: where they and the frames given to them lie in it, and how it is put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .known_frames import interleave, place

WINDOW = 8  # given frames of one window, as in Emu Video's interpolation


@dataclass(frozen=True)
class Window:
    """`frames` frames sampled together, from frame `start` of the whole video on; it knows the frames `given`."""

    start: int
    frames: int
    given: range


@dataclass(frozen=True)
class Layout:
    """A video of `frames` frames: given frame i lies at positions[i], the windows are sampled one by one."""

    frames: int
    positions: tuple[int, ...]
    windows: tuple[Window, ...]

    def known(self, latents: Tensor, window: Window) -> tuple[Tensor, Tensor]:
        """Latents of the frames that a window knows [n, C, h, w] -> its known frames and mask, as `place` does."""
        return place(latents, [self.positions[i] - window.start for i in window.given], window.frames)

    def join(self, videos: Sequence[Tensor], given: Tensor | None = None) -> Tensor:
        """The windows' frames [T, ...] -> the whole video [frames, ...]; `given` frames [n, ...] replace theirs.

        A window takes over half-way between the last frame that the one before it knows and the first that it knows
        itself: nowhere is a new frame far from the given ones that it was made from.
        """
        lengths = [window.frames for window in self.windows]
        if [len(video) for video in videos] != lengths:
            raise ValueError(
                f"Expected {_videos(lengths)}, got {_videos([len(video) for video in videos])}: "
                "connect the decoded frames that were sampled from the same conditioning node as the layout."
            )
        if given is None and self.windows[0].start > 0:
            raise ValueError("The video that was extended is missing: connect it to frames.")
        if given is not None and len(given) != len(self.positions):
            raise ValueError(
                f"The layout is for {len(self.positions)} given frames, but {len(given)} are connected: "
                "connect the same frames as to the conditioning node."
            )
        sizes = {tuple(video.shape[1:]) for video in (*videos, *(() if given is None else (given,)))}
        if len(sizes) > 1:
            found = " and ".join(sorted("x".join(map(str, reversed(size[:2]))) for size in sizes))
            raise ValueError(f"All frames must have one size, but there are {found}: scale them to the same.")
        joined = videos[0].new_zeros(self.frames, *videos[0].shape[1:])
        begin = self.windows[0].start
        for i, (window, video) in enumerate(zip(self.windows, videos, strict=True)):
            if i:
                before = self.positions[self.windows[i - 1].given[-1]]
                begin = (before + self.positions[window.given[0]] + 1) // 2
            joined[begin : window.start + window.frames] = video[begin - window.start :]
        if given is not None:
            for position, frame in zip(self.positions, given.to(joined), strict=True):
                joined[position] = frame
        return joined


def interpolated(
    count: int, factor: int, margins: tuple[int, int], window: int = WINDOW, paper: bool = False
) -> Layout:
    """`count` given frames, interleaved with new ones in windows of at most `window` given frames.

    All windows hold equally many, so the last one may begin before the end of the one before it. Windows are
    disjoint where their margins fill the gap between them; where these are too small, windows share a frame.

    paper: join as Emu Video words it (the last five frames of the first half and the first four of the second are
    dropped): 8 + 8 frames give 65 instead of 69, a given frame is lost, and time jumps by 5 frames at the seam.
    """
    if count < 2:
        raise ValueError(
            f"Interpolation needs at least 2 frames, got {count}: put single images together with Batch Images, or "
            "animate one with First Frame Conditioning."
        )
    if window < 2:
        raise ValueError(f"A window needs at least 2 given frames, got {window}.")
    size = min(window, count)
    positions, frames = interleave(size, factor, margins)
    if paper and count % size:
        raise ValueError(f"The paper's seam needs a multiple of {size} frames, got {count}: use the continuous seam.")
    share = not paper and (margins[0] < factor // 2 or margins[1] < (factor - 1) // 2)
    firsts = [*range(0, count - size, size - share), count - size]
    windows = tuple(
        Window((first - i if paper else first) * factor, frames, range(first, first + size))
        for i, first in enumerate(firsts)
    )
    lies = {i: window.start + p for window in windows for i, p in zip(window.given, positions, strict=True)}
    return Layout(windows[-1].start + frames, tuple(lies[i] for i in range(count)), windows)


def first_and_last(frames: int) -> Layout:
    """Two given frames, the first and the last of a video of `frames` frames."""
    if frames < 3:
        raise ValueError(f"A video of {frames} frames has none between its first and last: set frames to 3 or more.")
    return known_at((0, -1), frames)


def known_at(positions: Sequence[int], frames: int) -> Layout:
    """Given frame i at positions[i] of a video of `frames` frames; a negative position counts from its end."""
    wrong = [p for p in positions if not -frames <= p < frames]
    if wrong:
        raise ValueError(f"A video of {frames} frames has no frame {wrong[0]}: use positions from 0 to {frames - 1}.")
    places = tuple(p % frames for p in positions)
    if len(set(places)) < len(places):
        raise ValueError(f"The positions {', '.join(map(str, positions))} name a frame twice: name each once.")
    if not 1 <= len(places) < frames:
        raise ValueError(f"{len(places)} of {frames} frames are given: give at least one, and leave one to be made.")
    return Layout(frames, places, (Window(0, frames, range(len(places))),))


def extended(count: int, known: int, frames: int) -> Layout:
    """A video of `count` frames whose last `known` ones are the first of a new window of `frames` frames."""
    if not 1 <= known <= count:
        raise ValueError(
            f"The video is {count} frames long, so {known} of them cannot be known: set known between 1 and {count}, "
            "or put single images together with Batch Images."
        )
    if frames <= known:
        raise ValueError(f"A clip of {frames} frames, {known} of them known, adds nothing: set frames above {known}.")
    start = count - known
    return Layout(start + frames, tuple(range(count)), (Window(start, frames, range(start, count)),))


def join_all(layouts: Sequence[Layout], videos: Sequence[Tensor], given: Sequence[Tensor] = ()) -> list[Tensor]:
    """Joins several videos, whose windows follow each other in `videos`; given: of each, of all, or none.

    Frames lose an alpha channel. Raises ValueError where windows or given frames are missing, or too many.
    """
    videos, given = [video[..., :3] for video in videos], [frames[..., :3] for frames in given]
    if len(given) == 1:
        given *= len(layouts)
    if given and len(given) != len(layouts):
        raise ValueError(
            f"There are {len(layouts)} layouts, but the given frames of {len(given)} videos: connect those that the "
            "conditioning node was given."
        )
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
