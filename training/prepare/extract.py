"""Second pass over a video: decode the frames of its clips at the training size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .candidate import Candidate
from .decode import Unreadable, read
from .resize import Fit, resize
from .sources import Source


def extract(
    source: Source, clips: Sequence[Candidate], fitted: Fit, fps: float
) -> Iterator[tuple[Candidate, np.ndarray | None]]:
    """Yield each clip with its frames, uint8 [T, h, w, 3], or with None if they can no longer be read.

    clips: Clips of this source, in order. Neighbours may share a frame, if the source has fewer frames per second than
        the clips. About one of them is in memory at a time.
    """
    waiting = list(clips)
    needed = {index for clip in clips for index in clip.frames}
    final = max(needed)
    pictures: dict[int, np.ndarray] = {}
    try:
        for index, frame in enumerate(read(source, fps, wanted=needed.__contains__)):
            if frame.image is not None:
                pictures[index] = resize(frame.image, fitted)
            while waiting and index == waiting[0].frames[-1]:
                clip = waiting.pop(0)
                yield clip, np.stack([pictures[number] for number in clip.frames])
                first = waiting[0].frames[0] if waiting else final + 1
                pictures = {number: picture for number, picture in pictures.items() if number >= first}
            if index == final:
                break
    except Unreadable:
        pass
    for clip in waiting:
        yield clip, None
