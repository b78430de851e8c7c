import numpy as np
import pytest
from emu_video.pocket.evaluate.own_motion import judge, orbit
from emu_video.pocket.evaluate.own_motion_clips import DIAGONALS, prompts, scenes, write
from emu_video.pocket.world.reader import Sight, read_clip
from emu_video.pocket.world.render import render_clips
from emu_video.pocket.world.vocabulary import BACKGROUNDS, COLOURS, SHAPES
from emu_video.training.prepare.decode import read
from emu_video.training.prepare.sources import find


def drawn(clips) -> np.ndarray:
    return render_clips(clips)[0].permute(0, 1, 3, 4, 2).numpy()


def described(clip, way: str) -> dict:
    body = clip.bodies[0]
    return {"text": clip.caption, "colour": body.colour, "shape": body.shape, "way": way}


@pytest.mark.parametrize("motion", ["orbits", "diagonals"])
def test_what_is_trained_is_judged_right(motion):
    found = scenes(motion, 24, seed=1)
    rows = [
        judge(described(clip, way), frames)
        for (clip, way), frames in zip(found, drawn([c for c, _ in found]), strict=True)
    ]
    assert all(row["motion"] and row["colour"] and row["present"] for row in rows), rows
    assert np.mean([row["shape"] for row in rows]) > 0.95


def test_other_motions_are_judged_wrong():
    found = scenes("orbits", 12, seed=2)
    frames = drawn([clip for clip, _ in found])
    for (clip, _), one in zip(found, frames, strict=True):
        prompt = described(clip, "")
        assert not judge(prompt, one[[0] * 8])["motion"]  # stands still
        assert not judge(prompt, one[[0, 0, 1, 1, 2, 2, 3, 3]])["motion"]  # less than half of the circle
        assert not judge(prompt, one[[0, 1, 2, 3, 3, 2, 1, 0]])["motion"]  # there and back
    for clip, way in scenes("diagonals", 8, seed=3):
        one, wrong = drawn([clip])[0], next(other for other in DIAGONALS if other != way)
        assert not judge(described(clip, wrong), one)["motion"]
        assert not judge(described(clip, ""), one)["motion"]


def sights(x, y) -> list[Sight | None]:
    return [Sight("red", "circle", float(a), float(b), 0.1, 0.0, 1.0) for a, b in zip(x, y, strict=True)]


def test_orbit_of_known_paths():
    angles = np.linspace(0, 2 * np.pi, 8)
    turned, spread = orbit(sights(0.5 + 0.2 * np.cos(angles), 0.4 + 0.2 * np.sin(angles)))
    assert turned == pytest.approx(360, abs=0.1) and spread == pytest.approx(0, abs=1e-6)
    turned, _ = orbit(sights(0.5 + 0.2 * np.cos(angles / 2), 0.4 - 0.2 * np.sin(angles / 2)))
    assert turned == pytest.approx(180, abs=0.1)
    _, spread = orbit(sights(0.5 + 0.25 * np.cos(angles), 0.5 + 0.08 * np.sin(angles)))
    assert spread > 0.3  # a flat ellipse
    assert orbit(sights([0.5] * 8, [0.5] * 8)) == orbit([None] * 8) == (0, 1)  # a results file holds no NaN


@pytest.mark.parametrize("motion", ["orbits", "diagonals"])
def test_training_and_test_share_no_combination_of_colour_and_shape(motion):
    trained = {(clip.bodies[0].colour, clip.bodies[0].shape) for clip, _ in scenes(motion, 300, seed=0)}
    tested = {(prompt["colour"], prompt["shape"]) for prompt in prompts(motion, 96, seed=11)}
    assert tested and not trained & tested
    assert {colour for colour, _ in trained} == set(COLOURS) and {shape for _, shape in trained} == set(SHAPES)


def test_captions_of_orbits_name_no_motion():
    words = {word for clip, _ in scenes("orbits", 200, seed=0) for word in clip.caption.split()}
    assert words <= {"a", "on", "background", *COLOURS, *BACKGROUNDS, *SHAPES}


def test_shapes_stay_in_the_frame():
    for motion in ("orbits", "diagonals"):
        for clip, _ in scenes(motion, 200, seed=5):
            body = clip.bodies[0]
            for path in (body.x, body.y):
                assert (path - body.radius).min() > 0 and (path + body.radius).max() < 1


def test_files_are_what_a_user_has(tmp_path):
    """8 frames at 8 fps with a caption each, and after the codec the reader still sees the motion."""
    write(tmp_path / "clips", "orbits", 6)
    found, notes = find(tmp_path / "clips")
    assert len(found) == 6 and not notes
    expected = [clip for clip, _ in scenes("orbits", 6, seed=0)]
    for source, clip in zip(found, expected, strict=True):
        frames = list(read(source, 8.0))
        assert source.caption == clip.caption and len(frames) == 8 and frames[-1].time == pytest.approx(7 / 8)
        pictures = np.stack([frame.picture for frame in frames])
        assert judge(described(clip, ""), pictures)["motion"]
        assert read_clip(pictures).majority("colour") == clip.bodies[0].colour
    with pytest.raises(ValueError, match="is not empty"):
        write(tmp_path / "clips", "orbits", 6)
