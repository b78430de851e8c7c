"""The frames of clips in the second pass over a video."""

from itertools import pairwise

import numpy as np
from emu_video.tests.training.prepare.videos import moving, write
from emu_video.training.prepare.candidate import Candidate
from emu_video.training.prepare.decode import read
from emu_video.training.prepare.extract import extract
from emu_video.training.prepare.resize import Fit
from emu_video.training.prepare.sampling import clips
from emu_video.training.prepare.sources import find


def candidate(*frames: int) -> Candidate:
    return Candidate("a.mp4", "", frames, 0.0, 1.0, (64, 48), 0.0, 0.0, "", "")


def test_neighbouring_clips_may_share_a_frame(tmp_path):
    """Clips with a few more frames per second than the video repeat frames, sometimes across their border."""
    spans = clips([index / 24 for index in range(24 * 60)], [], frames=8, fps=25)
    assert any(one.frames[-1] == other.frames[0] for one, other in pairwise(spans))
    write(tmp_path / "a.mp4", moving(24))
    (source,), _ = find(tmp_path)
    images = [frame.image for frame in read(source, 8.0)]
    wanted = [candidate(0, 1, 2, 3), candidate(3, 4, 4, 5), candidate(5, 5), candidate(9, 10, 11, 23)]
    found = list(extract(source, wanted, Fit((64, 48), (0.0, 0.0, 64.0, 48.0)), 8.0))
    assert [clip for clip, _ in found] == wanted
    for clip, frames in found:
        assert frames is not None and np.array_equal(frames, np.stack([images[index] for index in clip.frames]))
