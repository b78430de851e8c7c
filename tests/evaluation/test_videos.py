"""Files of videos, and videos that are brought to one form."""

import numpy as np
import pytest
from emu_video.evaluation.videos import Video, in_common, read, write_lossless, write_mp4


@pytest.fixture
def video():
    return Video(np.random.default_rng(0).integers(0, 256, (5, 33, 47, 3), np.uint8), 8.0)


def test_lossless_file_gives_every_pixel_back(tmp_path, video):
    write_lossless(tmp_path / "deep" / "a.mkv", video)
    frames, fps = read(tmp_path / "deep" / "a.mkv")
    assert np.array_equal(frames, video.frames) and fps == 8
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["a.mkv"]


def test_mp4_is_close_and_has_even_sides(tmp_path):
    smooth = np.linspace(0, 255, 33 * 47).reshape(1, 33, 47, 1).repeat(6, 0).repeat(3, 3).astype(np.uint8)
    write_mp4(tmp_path / "a.mp4", Video(smooth, 23.976))
    frames, fps = read(tmp_path / "a.mp4")
    assert frames.shape == (6, 34, 48, 3) and fps == pytest.approx(23.976, abs=0.01)
    assert np.abs(frames[:, :33, :47].astype(int) - smooth).mean() < 3


@pytest.mark.parametrize("content", [b"", b"no video at all", b"\x00" * 5000])
def test_unreadable_file_is_named(tmp_path, content):
    (tmp_path / "broken.mp4").write_bytes(content)
    with pytest.raises(ValueError, match="broken.mp4 cannot be read as a video"):
        read(tmp_path / "broken.mp4")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="nothing.mp4"):
        read(tmp_path / "nothing.mp4")


def test_alike_videos_stay_as_they_are(video):
    for same in in_common([video, video]):
        assert np.array_equal(same.frames, video.frames) and same.fps == 8


def test_every_other_frame_is_taken_at_half_the_rate():
    frames = np.zeros((120, 2, 2, 3), np.uint8)
    frames[:] = np.arange(120)[:, None, None, None]
    for rate in (60000 / 1001, 59.94, 60.0):
        picked, _ = in_common([Video(frames, rate), Video(frames[:60], rate / 2)])
        assert (picked.frames[:, 0, 0, 0] == np.arange(0, 120, 2)).all()


def test_different_videos_get_one_form():
    ramp = np.arange(48, dtype=np.uint8)[:, None, None, None]
    fine = Video((ramp * 5).repeat(64, 1).repeat(64, 2).repeat(3, 3), 24.0)
    coarse = Video((np.arange(10, dtype=np.uint8)[:, None, None, None]).repeat(32, 1).repeat(64, 2).repeat(3, 3), 8.0)
    one, other = in_common([fine, coarse])
    assert one.fps == other.fps == 8 and one.frames.shape == other.frames.shape == (10, 32, 32, 3)
    assert one.frames[:, 0, 0, 0].tolist() == [15 * i for i in range(3, 13)]  # every third, around the middle
    assert other.frames[:, 0, 0, 0].tolist() == list(range(10))
