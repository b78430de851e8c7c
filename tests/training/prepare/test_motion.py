import numpy as np
import pytest
from emu_video.tests.training.prepare.videos import moving, write
from emu_video.training.prepare import motion
from emu_video.training.prepare.decode import read
from emu_video.training.prepare.sources import Source


def speed(path, use_vectors: bool) -> tuple[float, str]:
    """Median speed in diagonals per second: the edges, where new picture comes in, count little."""
    collected = motion.Motion()
    for frame in read(Source(path, path.name), 8.0, vectors=True):
        collected.add(frame, frame.picture, use_vectors)
    speeds, method = collected.speeds()
    return float(np.median(speeds)), method


@pytest.mark.parametrize("use_vectors", [True, False], ids=["vectors", "flow"])
@pytest.mark.parametrize(("width", "height", "pixels", "fps"), [(256, 192, 4, 8), (256, 192, 2, 16), (512, 384, 8, 8)])
def test_speed_of_a_known_motion(tmp_path, use_vectors, width, height, pixels, fps):
    """The same motion at another size or frame rate has the same speed: 4 of 320 pixels, 8 times a second."""
    frames = moving(16, width, height, pixels)
    if width == 512:  # the same picture, enlarged
        frames = moving(16, 256, 192, 4).repeat(2, 1).repeat(2, 2)
    found, method = speed(write(tmp_path / "a.mp4", frames, fps=fps, options={"crf": "15"}), use_vectors)
    assert method == (motion.VECTORS if use_vectors else motion.FLOW)
    assert found == pytest.approx(4 / 320 * 8, rel=0.15 if use_vectors else 0.25)


@pytest.mark.parametrize("b_frames", [0, 3])
def test_b_frames_do_not_change_the_speed(tmp_path, b_frames):
    options = {"bf": str(b_frames), "b_strategy": "0", "refs": "1", "crf": "15", "b-pyramid": "none"}
    found, _ = speed(write(tmp_path / "a.mp4", moving(32, 256, 192, 4), options=options), True)
    assert found == pytest.approx(4 / 320 * 8, rel=0.2)


@pytest.mark.parametrize("use_vectors", [True, False])
def test_a_still_video_has_no_speed(tmp_path, use_vectors):
    found, _ = speed(write(tmp_path / "a.mp4", moving(16, speed=0)), use_vectors)
    assert found == pytest.approx(0, abs=1e-3)


def test_key_frames_without_vectors_take_their_neighbours_speed(tmp_path):
    path = write(tmp_path / "a.mp4", moving(24, 256, 192, 4), options={"g": "6", "crf": "15"})
    collected = motion.Motion()
    for frame in read(Source(path, path.name), 8.0, vectors=True):
        collected.add(frame, frame.picture, True)
    speeds, _ = collected.speeds()
    assert len(speeds) == 24 and speeds[[0, 6, 12, 18]].min() > 0.5 * np.median(speeds)


def test_least_motion_is_the_stillest_six_frames():
    speeds = np.array([0, *[1.0] * 8, *[0.0] * 8, *[1.0] * 8])
    mean, least = motion.of_clip(speeds, range(25))
    assert mean == pytest.approx(16 / 24) and least == 0
    mean, least = motion.of_clip(speeds, range(0, 9, 2))
    assert mean == least == 1


def test_frames_between_those_of_a_clip_count():
    mean, _ = motion.of_clip(np.array([0.0, 4, 0, 0, 0, 4, 0, 0, 0]), [0, 4, 8])
    assert mean == 1
