"""Resizing, duplicates, cuts and filters."""

import io

import numpy as np
import PIL.Image
import pytest
from emu_video.tests.training.prepare.videos import moving
from emu_video.training.prepare.candidate import Candidate
from emu_video.training.prepare.duplicates import Duplicates, look
from emu_video.training.prepare.filters import reasons
from emu_video.training.prepare.resize import buckets, fit, nearest, resize
from emu_video.training.prepare.scenes import Cuts
from emu_video.training.prepare.settings import Settings


def candidate(least: float = 0.0, by: str = "optical flow", **changes) -> Candidate:
    return Candidate("a.mp4", "", (0,), 0.0, 1.0, (8, 8), least, least, by, "", **changes)


def test_centre_crop():
    fitted = fit((200, 100), (50, 50))
    assert fitted.box == (50, 0, 150, 100) and fitted.enlarged == 0.5 and fitted.crop == (25, 0)
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, 50:150] = 255
    assert resize(image, fitted).shape == (50, 50, 3) and resize(image, fitted)[:, 2:-2].min() > 250


def test_reducing_does_not_alias():
    """A pattern finer than the pixels of the clip becomes grey: box and bicubic are both filters."""
    stripes = np.zeros((120, 120, 3), np.uint8)
    stripes[:, ::2] = 255
    grey = resize(stripes, fit((120, 120), (16, 16)))
    assert np.abs(grey.astype(int) - 127).max() < 20  # 4 or 3 of 7 pixels
    whole = resize(stripes, fit((120, 120), (20, 20)))  # a whole factor: the mean of 6 x 6 pixels
    assert np.abs(whole.astype(int) - 127).max() <= 1


def test_resizing_is_pillows_bicubic():
    frame = moving(1, 160, 120)[0]
    ours = resize(frame, fit((160, 120), (100, 75)))
    theirs = np.asarray(PIL.Image.fromarray(frame).resize((100, 75), PIL.Image.Resampling.BICUBIC))
    assert np.array_equal(ours, theirs)


def test_buckets_keep_the_area_and_the_aspect_ratio():
    sizes = buckets(512, 512, 64)
    assert all(w % 64 == 0 and h % 64 == 0 and w * h <= 512 * 512 and 0.5 <= w / h <= 2 for w, h in sizes)
    assert nearest((1920, 1080), sizes) == (640, 384) and nearest((1080, 1920), sizes) == (384, 640)
    assert nearest((500, 500), sizes) == (512, 512) and nearest((4000, 100), sizes) == (640, 384)


def looks(frames: np.ndarray) -> np.ndarray:
    return np.stack([look(frames[place]) for place in (0, len(frames) // 2, -1)])


def smaller_and_worse(frames: np.ndarray) -> np.ndarray:
    worse = []
    for frame in frames:
        file = io.BytesIO()
        PIL.Image.fromarray(frame).resize((96, 72)).save(file, format="jpeg", quality=60)
        worse.append(np.asarray(PIL.Image.open(file)))
    return np.stack(worse)


def test_another_encode_of_a_clip_is_a_duplicate():
    known, found = Duplicates(), 0
    clips = [moving(8, 256, 192, seed=seed) for seed in range(30)]
    for number, frames in enumerate(clips):
        assert known.earlier(looks(frames), str(number)) is None
    for number, frames in enumerate(clips):
        found += known.earlier(looks(smaller_and_worse(frames)), "again") == str(number)
    assert found == 30


def test_small_shapes_of_other_colours_are_no_duplicates():
    known = Duplicates()
    for number, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]):
        for start in (8, 40):
            frames = np.zeros((8, 64, 64, 3), np.uint8)
            for time, frame in enumerate(frames):
                frame[20:30, start + time : start + time + 10] = colour
            assert known.earlier(looks(frames), f"{number} {start}") is None


def test_the_same_shape_moving_the_other_way_is_no_duplicate():
    known = Duplicates()
    frames = np.zeros((9, 64, 64, 3), np.uint8)
    for time, frame in enumerate(frames):
        frame[20:30, 8 + 4 * time : 18 + 4 * time] = 255
    assert known.earlier(looks(frames), "right") is None
    assert known.earlier(looks(frames[::-1]), "left") is None


def test_cuts():
    """Also after one frame, before the last one, and where frames are repeated."""
    parts = [(1, 1), (6, 2), (3, 3), (6, 4), (1, 5)]
    frames = np.concatenate([moving(count, seed=seed) for count, seed in parts])
    assert cuts_of(frames) == [1, 7, 10, 16]
    assert cuts_of(frames.repeat(3, 0)) == [3, 21, 30, 48]


def cuts_of(frames) -> list[int]:
    cuts = Cuts()
    for index, frame in enumerate(frames):
        cuts.add(index, frame)
    return cuts.finish()


def test_a_fade_through_black_is_a_cut():
    dark = [1.0, 0.8, 0.5, 0.25, 0.1, 0.0]
    ends, begins = (
        moving(6, seed=1) * np.array(dark)[:, None, None, None],
        moving(6, seed=2) * np.array(dark[::-1])[:, None, None, None],
    )
    frames = np.concatenate([moving(6, seed=1), ends, begins, moving(6, seed=2)]).astype(np.uint8)
    assert any(6 < cut < 18 for cut in cuts_of(frames))


def test_fast_motion_is_no_cut():
    frames = np.zeros((16, 64, 64, 3), np.uint8)
    for time, frame in enumerate(frames):
        frame[20:40, 3 * time : 3 * time + 16] = 255, 0, 0
    for moved in (frames, moving(24), moving(24, speed=5, seed=2), moving(3, seed=3)):
        assert cuts_of(moved) == cuts_of(moved.repeat(3, 0)) == []


def test_the_stillest_are_left_out_by_each_method():
    clips = [candidate(score, by) for by in ("optical flow", "motion vectors") for score in (0.4, 0.1, 0.3, 0.2)]
    for clip in clips[4:]:
        clip.least_motion *= 1000  # another scale
    marked = [bool(reason) for reason in reasons(clips, Settings(stillest=50))]
    assert marked == [False, True, False, True] * 2
    assert [bool(reason) for reason in reasons(clips, Settings())] == [False] * 8


def test_clip_and_aesthetic_scores():
    clips = [candidate(matching=score, aesthetic=10 - score) for score in (1.0, 2, 3, 4)]
    left_out = reasons(clips, Settings(least_matching=30, least_aesthetic=30))
    assert "does not match its caption" in left_out[0] and left_out[1] == left_out[2] == ""
    assert "does not look good" in left_out[3]


@pytest.mark.parametrize(("setting", "words"), [
    ({"frames": 1}, "at least 2 frames"), ({"fps": 0}, "above 0"), ({"width": 0}, "width and height above 0"),
    ({"per_video": -1}, "0 for all"), ({"stillest": 100}, "percentage"),
])  # fmt: skip
def test_settings_that_make_no_sense(setting, words):
    with pytest.raises(ValueError, match=words):
        Settings(**setting)
