"""Two small folders of videos with three names in common."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from emu_video.evaluation.juice.session import Session
from emu_video.evaluation.videos import Video, write_mp4

NAMES = ("cat", "dog", "<b>odd & name")


def moving_square(frames: int, height: int, width: int, colour: int) -> np.ndarray:
    video = np.full((frames, height, width, 3), 30, np.uint8)
    for i in range(frames):
        video[i, 10:30, 4 + 2 * i : 24 + 2 * i, colour] = 220
    return video


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    for name in NAMES:
        write_mp4(tmp_path / "ours" / f"{name}.mp4", Video(moving_square(8, 64, 64, 0), 8))
        write_mp4(tmp_path / "theirs" / f"{name}.mp4", Video(moving_square(12, 48, 96, 1), 12))
    (tmp_path / "ours" / "cat.txt").write_text("a cat jumps")
    write_mp4(tmp_path / "ours" / "alone.mp4", Video(moving_square(8, 64, 64, 0), 8))
    return tmp_path / "ours", tmp_path / "theirs"


@pytest.fixture
def session(folders, tmp_path) -> Session:
    return Session(*folders, tmp_path / "session", check_every=2, report=lambda _: None)
