"""Scores of two shapes, changing light and roundness, on true clips and on clips with the fault."""

import numpy as np
import pytest
from emu_video.pocket.evaluate import text_to_video
from emu_video.pocket.evaluate.text_to_video import LIGHTS, judge, light_prompts, table, two_shape_prompts
from emu_video.pocket.model.text_encoder import Vocabulary
from emu_video.pocket.world import Scenes, render_clips, sample_clips
from emu_video.pocket.world.background import EVEN
from emu_video.pocket.world.vocabulary import spins_visibly


def true_clips(scenes: Scenes, count: int, seed: int = 8):
    clips = sample_clips(seed, count, scenes=scenes)
    return list(zip(clips, render_clips(clips)[0].movedim(2, -1).numpy(), strict=True))


def pair_of(clip) -> dict:
    names = "colour", "shape", "motion"
    return {"bodies": [{name: getattr(body, name) for name in names} for body in clip.bodies]}


def test_two_true_shapes_are_right_and_swapped_ones_are_not():
    different = [
        (clip, frames)
        for clip, frames in true_clips(Scenes(pairs=1.0, free_pairs=1.0, dimming=0.0), 36)
        if len({body.colour for body in clip.bodies}) == len({body.motion for body in clip.bodies}) == 2
    ]
    assert len(different) > 12
    right = [judge(pair_of(clip), frames[0], frames)["both"] for clip, frames in different]
    assert np.mean(right) >= 0.95
    for clip, frames in different:
        for part in ("colour", "shape", "motion"):
            one, other = pair_of(clip)["bodies"]
            if one[part] != other[part]:
                swapped = [one | {part: other[part]}, other | {part: one[part]}]
                assert not judge({"bodies": swapped}, frames[0], frames)["both"]


def lit(clip) -> dict:
    return {"light": next((light for light in LIGHTS if clip.caption.endswith(light)), "")}


def test_light_of_true_clips_is_right_and_the_background_even():
    clips = [
        (clip, frames) for clip, frames in true_clips(Scenes(pairs=0.0, dimming=0.7), 24) if clip.background != "black"
    ]
    rows = [judge(lit(clip), frames[0], frames) for clip, frames in clips]
    assert {lit(clip)["light"] for clip, _ in clips} == {*LIGHTS, ""}
    assert np.mean([row["light"] for row in rows]) >= 0.97
    assert max(row["spread"] for row in rows) < 2.0 and np.median([row["spread"] for row in rows]) < 0.5
    waves = 2 * EVEN * np.sin(np.arange(128) / 8)[:, None, None]  # their deviation is about 1.4 x EVEN
    for clip, frames in clips[:3]:
        blotched = (frames + waves).clip(0, 255).astype(np.uint8)
        assert judge(lit(clip), frames[0], blotched)["spread"] > EVEN


@pytest.mark.parametrize("make", [two_shape_prompts, light_prompts])
def test_prompts_are_in_the_pockets_words(make):
    chosen, vocabulary = make(3, 40), Vocabulary()
    assert len({prompt["text"] for prompt in chosen}) > 35
    assert not any(vocabulary.complaint(prompt["text"]) for prompt in chosen)
    for prompt in chosen:
        for body in prompt.get("bodies", ()):
            assert body["colour"] in prompt["text"] and body["shape"] in prompt["text"]
            assert body["motion"] != "spinning" or spins_visibly(body["shape"])


def test_roundness_of_a_clip_rises_when_it_is_melted():
    import cv2

    ((clip, frames),) = true_clips(Scenes(("moving right",), pairs=0.0, dimming=0.0), 1)
    prompt = {"motion": "moving right", "colour": clip.bodies[0].colour, "shape": clip.bodies[0].shape}
    assert judge(prompt, frames[0], frames)["roundness"] < 0.01
    x, y = np.meshgrid(np.arange(128, dtype=np.float32), np.arange(128, dtype=np.float32))
    bent = np.stack([cv2.remap(f, x + 3 * np.sin(y / 6), y + 3 * np.sin(x / 5), cv2.INTER_LINEAR) for f in frames])
    assert judge(prompt, frames[0], bent)["roundness"] > 0.05


def test_table_has_a_line_for_each_kind_that_was_measured():
    rows = {
        "two 0: a": {"both": True},
        "two 1: b": {"both": False},
        "light 0: c": {"light": True, "spread": 1.0},
        "light 1: d": {"light": True, "spread": EVEN + 0.1},
        "light 2: e": {"light": False, "spread": 1.0},
    }
    lines = text_to_video.scene_lines(
        {kind: [r for k, r in rows.items() if k.startswith(kind)] for kind in text_to_video.KINDS}
    )
    assert [(line[0].split(",")[0], line[2].split()[0]) for line in lines] == [
        ("two shapes", "50.0%"), ("light changes as asked", "33.3%"),
    ]  # fmt: skip
    clips = {
        "clip 0: seen": CLIP,
        "clip 1: unseen": CLIP | {"unseen": True, "roundness": 0.05},
        "clip 2: spins": CLIP | {"wanted": "spinning", "roundness": None},
    }
    assert "| distance from the ideal shape, median | <= 3.5 % | 3.5% (n = 2) |" in table(rows | clips)


CLIP = {
    "wanted": "moving up", "unseen": False, "motion": True, "colour": True, "shape": True, "present": True,
    "same": True, "psnr": 30.0, "drift": 1.0, "roundness": 0.02,
}  # fmt: skip
