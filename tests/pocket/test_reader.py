import numpy as np
import pytest
from emu_video.pocket.evaluate.text_to_video import opposite_prompts, prompts
from emu_video.pocket.world import render_clips, sample_clips
from emu_video.pocket.world.reader import read_clip
from emu_video.pocket.world.vocabulary import MOTIONS, OPPOSITES, held_out


def rendered(count: int) -> list:
    """Return (clip, video) of the clips among `count` that show one shape in steady light."""
    clips = [c for c in sample_clips(7, count) if len(c.bodies) == 1 and c.light[0] == c.light[-1]]
    pictures, _ = render_clips(clips)
    return list(zip(clips, pictures.movedim(2, -1).numpy(), strict=True))


@pytest.fixture(scope="module")
def many():
    return rendered(220)


@pytest.fixture(scope="module")
def few():
    return rendered(45)


@pytest.mark.slow
def test_reads_rendered_clips_right(many):
    bodies, readings = [clip.bodies[0] for clip, _ in many], [read_clip(video) for _, video in many]
    assert len(bodies) > 120 and {b.motion for b in bodies} == set(MOTIONS)
    for field in ("colour", "shape", "motion"):
        read = [r.motion if field == "motion" else r.majority(field) for r in readings]
        assert np.mean([a == getattr(b, field) for a, b in zip(read, bodies, strict=True)]) >= 0.99
    assert all(r.present and r.drift < 0.5 for r in readings)


@pytest.mark.slow
def test_sees_reversed_clips_as_opposites(many):
    turned = [(c.bodies[0].motion, video[::-1]) for c, video in many if c.bodies[0].motion in OPPOSITES]
    assert len(turned) > 40
    assert np.mean([read_clip(video).motion == OPPOSITES[motion] for motion, video in turned]) >= 0.97


def test_reads_a_few_clips_and_their_reversal_right(few):
    for clip, video in few:
        body, reading = clip.bodies[0], read_clip(video)
        assert (reading.majority("colour"), reading.motion) == (body.colour, body.motion)
        if body.motion in OPPOSITES:
            assert read_clip(video[::-1]).motion == OPPOSITES[body.motion]


def test_sees_what_is_missing_or_drifts(few):
    _, video = few[0]
    empty = video.copy()
    empty[4:] = video[0, 0, 0]
    assert not read_clip(empty).present
    darker = (video * np.linspace(1, 0.6, len(video))[:, None, None, None]).astype(np.uint8)
    assert read_clip(darker).drift > 5


def test_a_frozen_clip_does_not_move(few):
    frozen = [read_clip(np.repeat(video[:1], 8, 0)).motion for _, video in few]
    assert set(frozen) == {"still"}


def test_prompts_are_balanced_and_repeatable():
    chosen = prompts(1, 256)
    assert chosen == prompts(1, 256) and len(chosen) == 256
    assert sum(p["unseen"] for p in chosen) == 128
    assert all(held_out(p["colour"], p["shape"], p["motion"]) == p["unseen"] for p in chosen)
    assert {p["motion"] for p in chosen} == set(MOTIONS)
    pairs = opposite_prompts(2, 12)
    for a, b in zip(pairs[::2], pairs[1::2], strict=True):
        assert a["image"] == b["image"] and a["seed"] == b["seed"] and a["motion"] == OPPOSITES[b["motion"]]
