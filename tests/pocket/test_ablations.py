"""The five ablations: the whole of it at a tiny size, its data, and its statistics on simulated results."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from emu_video.evaluation.intervals import FEW_PROMPTS
from emu_video.evaluation.juice.questions import QUESTIONS
from emu_video.evaluation.juice.store import TIE, Answer
from emu_video.pocket.ablations import __main__ as command
from emu_video.pocket.ablations import arms, data, recipes
from emu_video.pocket.ablations.arms import Lab, train_arm
from emu_video.pocket.ablations.colours import Kept, colour_table, plot, survival_interval
from emu_video.pocket.ablations.measured import check_result, complete_seeds, found_in, measure_videos
from emu_video.pocket.ablations.recipes import ARMS, COMPARISONS, HIGH, LOW, Scale, Side, needed, sides
from emu_video.pocket.ablations.report import report
from emu_video.pocket.ablations.results import compare, measures_table, win_rates, win_table
from emu_video.pocket.ablations.survival import predicted_survival, survival
from emu_video.pocket.ablations.timing import estimate
from emu_video.pocket.evaluate.reasons import MEASURES
from emu_video.pocket.recipe import RECIPE
from emu_video.pocket.stages.layers import fresh_layers
from emu_video.temporal_layers.attach import attach
from PIL import Image
from safetensors.torch import load_file

RESULT = "measured.jsonl"
TINY = Scale(steps=2, batch=1, pictures=2, clips=12, subset=2, prompts=1, sampling=1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("ablations"), TINY)
    assert estimate(lab, needed(COMPARISONS), [0], COMPARISONS)["arms"] > 0
    command.run(lab, COMPARISONS, [0], lab.folder / RESULT)
    return lab


@pytest.mark.slow
def test_one_command_makes_every_table(finished):
    text = (finished.folder / "results.md").read_text()
    for each in COMPARISONS:
        assert f"| {each.key} | {each.title} |" in text
    assert all(f"| {arm.name} |" in text for arm in ARMS.values() if arm.name != "direct")
    assert "| direct, own first frames |" in text and "| direct, own first frames, guidance 4 |" in text
    assert "| factorised, own first frames with guidance 2 |" in text
    assert "Survival of mean colours" in text
    assert set(estimate(finished, needed(COMPARISONS), [0], COMPARISONS).values()) == {0}


@pytest.mark.slow
def test_nothing_is_made_twice(finished, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*") if path.is_file()}
    monkeypatch.setattr(arms, "train", lambda *_, **__: pytest.fail("trained again"))
    command.run(Lab(finished.folder, TINY), COMPARISONS, [0], finished.folder / RESULT)
    changed = {path.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed <= {"results.md", "run.json", "survival.png"}


@pytest.mark.slow
def test_rows_of_another_machine_stay_in_the_file_and_in_the_tables(finished, tmp_path):
    """Rows of a second training seed count without its videos. Those of an incomplete third one do not."""
    header, *lines = (finished.folder / RESULT).read_text().splitlines()
    more = [line.replace(' 0 0"', ' 0 1"', 1) for line in lines if '"video"' in line]
    half = [line.replace(' 0 0"', ' 0 2"', 1) for line in lines if '"factorised 0 0"' in line]
    assert len(more) == len(sides(COMPARISONS)) and len(half) == 1
    result = tmp_path / RESULT
    result.write_text("\n".join([header, *lines, *more, *half]) + "\n")
    before = result.read_bytes()
    check_result(finished, result)
    rows = measure_videos(finished, [0], COMPARISONS, result)
    assert result.read_bytes() == before and complete_seeds(rows, sides(COMPARISONS), TINY) == [0, 1]
    assert all(f"{each.title} | 2 |" in report(rows, COMPARISONS, {}, TINY) for each in COMPARISONS)
    assert {seed for _, _, seed in found_in(rows, COMPARISONS, TINY)} == {0, 1}
    with pytest.raises(ValueError, match="rows of other settings"):
        check_result(Lab(tmp_path / "other", Scale(steps=3)), result)


@pytest.mark.slow
def test_arms_differ_only_in_what_they_say(finished):
    def weights(name: str) -> dict:
        return load_file(finished.layers_path(ARMS[name], 0))

    known = "input_blocks.0.0.extra.weight"
    copied = load_file(finished.base_path(recipes.V_ZERO))["input_blocks.0.0.weight"]
    assert torch.equal(weights("direct")[known][:, :16], copied)  # zeros enter it, so it does not change
    assert not torch.equal(weights("factorised")[known][:, :16], copied)
    for name, changes in (("factorised", False), ("trained_image_model", True)):
        model, _ = arms.trained(finished, ARMS[name], 0)
        assert torch.equal(model.unet.state_dict()["input_blocks.0.0.weight"], copied) != changes
    assert not torch.equal(weights("high_quality")[known], weights("random_subset")[known])


@pytest.mark.slow
def test_an_interrupted_arm_ends_the_same(finished, tmp_path):
    arm = ARMS["multi_stage"]
    lab = Lab(tmp_path, TINY)
    (tmp_path / "image_models").symlink_to(finished.folder / "image_models")
    stops = iter([True])
    train_arm(lab, arm, 0, should_stop=lambda: next(stops, True))
    assert not lab.is_trained(arm, 0)
    train_arm(lab, arm, 0)
    resumed, whole = (load_file(each.layers_path(arm, 0)) for each in (lab, finished))
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)


def test_another_scale_needs_another_folder(tmp_path):
    Lab(tmp_path, TINY)
    with pytest.raises(ValueError, match="other settings.*--folder"):
        Lab(tmp_path, Scale(steps=3))


def test_another_pocket_needs_another_folder(tmp_path, monkeypatch):
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"other weights")
    Lab(tmp_path / "run", TINY)
    monkeypatch.setattr("emu_video.pocket.ablations.arms.CHECKPOINT", other)
    with pytest.raises(ValueError, match="other settings"):
        Lab(tmp_path / "run", TINY)


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (recipes, "UNSEEN", ("star", "cyan")),
        (recipes, "TEXT_GUIDANCE", 3.0),
        (data, "SETTINGS", ()),
        (arms, "SETTINGS", ()),
    ],
)
def test_other_settings_need_another_folder(tmp_path, monkeypatch, module, name, value):
    Lab(tmp_path, TINY)
    monkeypatch.setattr(module, name, value)
    with pytest.raises(ValueError, match="other settings"):
        Lab(tmp_path, TINY)


@pytest.mark.parametrize("empty", [{"steps": 0}, {"prompts": 0}])
def test_nothing_to_train_or_judge_is_refused(tmp_path, empty):
    with pytest.raises(ValueError, match="at least one step and one prompt"):
        Lab(tmp_path, Scale(**empty))


def test_equal_is_equal():
    scale = Scale(steps=1000)

    def steps(name: str) -> dict[int, int]:
        return {leg.size: scale.leg_steps(leg) for leg in ARMS[name].legs}

    multi, single = steps("multi_stage"), steps("single_equal_flops")
    assert sum(multi.values()) == steps("factorised")[HIGH]
    assert single[HIGH] == round(multi[HIGH] + multi[LOW] / recipes.FLOPS_RATIO)
    assert ARMS["high_quality"].legs[0].steps == ARMS["random_subset"].legs[0].steps
    for each in COMPARISONS:  # one thing differs, or two where the paper changes both
        first, second = (vars(ARMS[name]) for name in (each.first, each.second))
        differs = {key for key in first if first[key] != second[key]} - {"name"}
        assert len(differs) <= (2 if each.key == "d1" else 1), (each.key, differs)
    assert [each.paper for each in COMPARISONS if each.paper] == [
        (70.5, 63.3), (96.8, 88.3), (81.8, 84.1), (65.1, 79.6), (55.0, 58.1),
    ]  # fmt: skip


def test_flops_of_both_sizes():
    """The equal FLOPs of (c) rest on their ratio."""
    from torch.utils.flop_counter import FlopCounterMode

    model, counts = arms.shipped_image_model(), []
    layers = fresh_layers(model, RECIPE.base, 0)
    attach(model.unet, layers, owner=layers)
    context, pooled = model.encode(torch.zeros(8, 32, dtype=torch.long))
    for size in (HIGH, LOW):
        with FlopCounterMode(display=False) as counter:
            model(torch.randn(8, 33, size // 8, size // 8), torch.zeros(8), context, pooled).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] / counts[1] == pytest.approx(recipes.FLOPS_RATIO, rel=0.01)


def test_spoiled_clips():
    scale = Scale(clips=200, subset=20)
    latents = torch.randn(200, 8, 4, 2, 2)
    made = data.Encoded(latents, torch.rand(200, 8, 2, 2) < 0.5)
    sets = {name: data.training_clips(name, made, scale) for name in ("clean", "noisy", "best", "random")}
    assert [len(each) for each in sets.values()] == [200, 200, 20, 20]
    noisy = [sets["noisy"][i] for i in range(200)]
    static = [clip for clip in noisy if (clip.latents == clip.latents[:1]).all()]
    assert len(static) == pytest.approx(200 * data.STATIC, abs=25)
    assert all((clip.weight == clip.weight[:1]).all() for clip in static)
    wordless = sum(a != b for a, b in zip(sets["clean"].captions, sets["noisy"].captions, strict=True))
    assert wordless == pytest.approx(200 * data.WORDLESS, abs=25)
    assert all(data.without_motion(caption) != caption and "still" not in caption for caption in sets["best"].captions)
    for name in recipes.UNSEEN:
        assert not any(name in caption for caption in sets["clean"].captions)
    scenes = data.judged_scenes(32)
    judged = [scene.caption for scene in scenes]
    assert [sum(name in caption for caption in judged) for name in recipes.UNSEEN] == [4, 4]
    assert sum(bool(data.light_of(scene)) and not data.shows_unseen(scene) for scene in scenes) == 8
    assert all(("getting brighter" in each.caption) == (data.light_of(each) == 1) for each in scenes)
    assert len(set(judged)) > 28


def simulated(prompts: int, seeds: int, chance: float, ties: float = 0.0) -> dict:
    rng = random.Random(0)

    def answer(question: str) -> Answer:
        if rng.random() < ties:
            return Answer(TIE, ())
        return Answer("a" if rng.random() < chance else "b", (next(iter(MEASURES[question])),))

    return {(p, s): {key: answer(key) for key in QUESTIONS} for p in range(prompts) for s in range(seeds)}


@pytest.mark.parametrize(("chance", "direction"), [(0.8, "reproduced"), (0.5, "not resolved"), (0.2, "contradicted")])
def test_known_preferences_give_known_directions(chance, direction):
    rates = win_rates(simulated(60, 3, chance))
    assert rates["quality"].direction() == direction
    assert rates["quality"].rate == pytest.approx(chance, abs=0.07)
    assert rates["quality"].low < chance < rates["quality"].high
    assert rates["quality"].reasons == ("sharpness",) and rates["quality"].ties == 0


def test_ties_count_one_half():
    rates = win_rates(simulated(100, 3, 1.0, ties=0.4))
    assert rates["quality"].ties == pytest.approx(0.4, abs=0.07)
    assert rates["quality"].rate == pytest.approx(0.8, abs=0.04)


def test_few_pairs_resolve_nothing():
    """55 % in 32 captions: the paper's ablation (e) needs 780."""
    found = [win_rates(simulated(32, 3, 0.55))[key].direction() for key in QUESTIONS]
    assert "contradicted" not in found and "not resolved" in found


def test_the_table_stands_beside_the_paper():
    good = {key: 1.0 if key in ("motion", "temporal") else 0.5 for reasons in MEASURES.values() for key in reasons}
    bad = dict.fromkeys(good, 0.5)
    first, second = COMPARISONS[0].sides
    found = {(side, p, s): good if side == first else bad for side in (first, second) for p in range(8) for s in (0, 1)}
    row = win_table({"a1": compare(found, COMPARISONS[0])}).splitlines()[-1]
    assert row == (
        "| a1 | factorised against direct text to video, guidance 2 everywhere | 2 | 70.5 / 63.3 | 100 (68 to 100), "
        "0 ties | reproduced | 100 (68 to 100), 0 ties | reproduced | motion, temporal |"
    )


def test_a_comparison_that_the_paper_has_not_is_not_reproduced():
    rates = win_rates(simulated(60, 3, 0.8))["quality"]
    assert (rates.direction(), rates.direction(in_paper=False)) == ("reproduced", "first better")
    assert win_rates(simulated(60, 3, 0.2))["quality"].direction(in_paper=False) == "second better"


def test_fewer_captions_than_intervals_need_resolve_nothing():
    rates = win_rates(simulated(FEW_PROMPTS - 1, 3, 1.0))["quality"]
    assert (rates.rate, rates.high, rates.direction()) == (1, 1, "not resolved") and rates.low > 0.5
    assert win_rates(simulated(FEW_PROMPTS, 3, 1.0))["quality"].direction() == "reproduced"
    assert win_rates(simulated(FEW_PROMPTS, 1, 1.0))["quality"].direction() == "not resolved"  # one training seed


def test_direct_is_compared_with_both_guidances():
    """In a1 all frames have the same guidance. Videos of the same weights have folders of their own."""
    (weak, usual), (first, strong) = (each.sides for each in COMPARISONS[:2])
    assert weak.arm == first.arm == "factorised" and usual.arm == strong.arm == "direct"
    assert weak.pictures == weak.guidance == usual.guidance == recipes.TEXT_GUIDANCE == first.guidance
    assert first.pictures == strong.guidance == recipes.PICTURE_GUIDANCE
    assert [each.folder for each in sides(COMPARISONS[:2])] == [
        "direct_own_first_frames", "direct_own_first_frames_guidance_4",
        "factorised_own_first_frames_with_guidance_2", "factorised_own_first_frames",
    ]  # fmt: skip


def test_measures_have_intervals_over_captions_and_a_row_for_unseen_words():
    values = dict.fromkeys((key for reasons in MEASURES.values() for key in reasons), 1.0)
    side, other = Side("factorised", True), Side("factorised")
    found = {(each, p, s): values | {"spatial": p % 2} for each in (side, other) for p in range(16) for s in range(3)}
    rows = [line.split(" | ") for line in measures_table(found, {1, 3}).splitlines()]
    assert [row[0] for row in rows[2:]] == [
        "| factorised, own first frames", "| factorised, own first frames, unseen", "| factorised",
    ]  # fmt: skip
    spatial = [row[rows[0].index("spatial")] for row in rows[2:]]
    assert spatial == ["0.50 (0.25 to 0.75)", "1.00 (1.00 to 1.00)", "0.50 (0.25 to 0.75)"]  # as 16 values, not 48


@pytest.mark.parametrize(("spread", "survives"), [(0.01, 0.97), (0.05, 0.85), (0.1, 0.71)])
def test_predicted_survival_is_that_of_the_closed_form(spread, survives):
    """Of known first frames, eight frames of 16 x 16 differ by one random number. With zero-SNR nothing is lost.

    The numbers are those of 2048 latents with this spread of their mean, for one Gaussian mode.
    """
    rng = np.random.default_rng(0)
    first = rng.normal(0, 1, (1000, 1, 3, 1, 1))
    latents = (
        np.repeat(first, 9, 1) + spread * rng.normal(0, 1, (1000, 1, 3, 1, 1)) * (np.arange(9) > 0)[:, None, None, None]
    )
    latents = latents + np.zeros((16, 16))
    light = rng.integers(-1, 2, 1000)
    assert predicted_survival(recipes.V_STANDARD, latents, light) == pytest.approx([1] + [survives] * 8, abs=0.01)
    assert predicted_survival(recipes.V_ZERO, latents, light) == pytest.approx([1] * 9)


def test_words_about_light_are_known_to_the_prediction():
    """What the words tell is not lost: only what remains random counts."""
    rng = np.random.default_rng(0)
    light = rng.integers(-1, 2, 300)
    latents = (
        rng.normal(0, 1, (300, 1, 3, 1, 1)) + light[:, None, None, None, None] * np.arange(3)[:, None, None, None] / 2
    )
    latents = latents + np.zeros((16, 16))
    assert predicted_survival(recipes.V_STANDARD, latents, light) == pytest.approx([1, 1, 1], abs=1e-6)
    assert predicted_survival(recipes.V_STANDARD, latents, 0 * light)[2] < 0.7


def test_survival_is_a_slope():
    true = np.random.default_rng(0).uniform(0, 255, (50, 3))
    assert survival(true, true) == pytest.approx(1)
    assert survival(0.6 * true + 0.4 * true.mean(0), true) == pytest.approx(0.6)


def test_survival_has_an_interval_over_captions(tmp_path):
    rng = np.random.default_rng(0)
    true = rng.uniform(0, 255, (32, 3))
    made = 0.6 * true + 0.4 * true.mean(0) + rng.normal(0, 30, (2, 32, 3))
    found, low, high = survival_interval(made, true)
    assert low < 0.6 < high and 0.05 < high - low < 0.3 and low < found < high
    assert np.isnan(survival_interval(made[:, :1], true[:1])).all()  # one caption has no slope
    kept = {"v": Kept(np.ones(8), np.array([(found, low, high)] * 8)), "eps": Kept(np.ones(8), np.full((8, 3), np.nan))}
    assert f"| v | measured | {found:.2f} ({low:.2f} to {high:.2f}) |" in colour_table(kept)
    assert "| v | predicted | 1.00 |" in colour_table(kept)
    plot(kept, tmp_path / "survival.png")
    assert Image.open(tmp_path / "survival.png").width > 500
