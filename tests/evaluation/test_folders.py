"""Which prompt and seed a video of a folder has."""

import pytest
from emu_video.evaluation.folders import NO_SEED, clips_of

PROMPTS = {"cat": "a cat", "cat_2": "two cats", "ucf_001": "archery"}


def test_counters_of_full_width_are_no_seeds(tmp_path):
    for name in ("ucf_099", "ucf_100", "cat_1", "cat_10"):
        (tmp_path / f"{name}.mp4").write_bytes(b"")
    clips = {clip.name: clip.group for clip in clips_of("arm", tmp_path)}
    assert clips == {"ucf_099": "ucf_099", "ucf_100": "ucf_100", "cat_1": "cat", "cat_10": "cat"}


@pytest.mark.parametrize(
    ("name", "prompts", "group", "seed", "text"),
    [
        ("cat", PROMPTS, "cat", NO_SEED, "a cat"),
        ("cat_1", PROMPTS, "cat", 1, "a cat"),
        ("cat_2", PROMPTS, "cat_2", NO_SEED, "two cats"),
        ("cat_2_5", PROMPTS, "cat_2", 5, "two cats"),
        ("cat_007", PROMPTS, "cat", 7, "a cat"),
        ("ucf_001", PROMPTS, "ucf_001", NO_SEED, "archery"),
        ("ucf_002", PROMPTS, "ucf_002", NO_SEED, ""),
        ("cat_2", {}, "cat", 2, ""),
        ("cat_0", {}, "cat", 0, ""),
        ("AnimateDiff_00001", {}, "AnimateDiff_00001", NO_SEED, ""),
        ("AnimateDiff_00001_", {}, "AnimateDiff_00001_", NO_SEED, ""),
        ("_5", {}, "_5", NO_SEED, ""),
    ],
)
def test_prompt_and_seed_of_a_name(tmp_path, name, prompts, group, seed, text):
    (tmp_path / f"{name}.mp4").write_bytes(b"")
    (clip,) = clips_of("arm", tmp_path, prompts)
    assert (clip.group, clip.seed, clip.prompt) == (group, seed, text)
