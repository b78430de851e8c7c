"""The figures of a report: intervals, paired differences, verdicts, plots."""

import re
from pathlib import Path

import numpy as np
import pytest
from emu_video.evaluation.report import FEW_PROMPTS, set_distances, summarise, svg_intervals, verdict, write_report
from emu_video.evaluation.sweep import Clip


def comparison(prompts=20, seeds=3, gain=0.5, arms=("a", "b")):
    """The second arm is better by `gain` of every video, far less than prompts differ."""
    rng = np.random.default_rng(0)
    matched, scores = [], {}
    for prompt in range(prompts):
        base = rng.normal(30, 5)
        for seed in range(seeds):
            name = f"{prompt}_{seed}"
            matched.append([Clip(arm, name, "text", str(prompt), seed, Path(name), None) for arm in arms])
            for arm, value in zip(arms, (base, base + gain + rng.normal(0, 0.2)), strict=True):
                scores[arm, name] = {"metrics": {"psnr": value}, "form": "f", "measured as": "f", "file": "a.mp4"}
    return matched, scores


def test_paired_differences_see_what_means_cannot():
    summary = summarise(*comparison())["psnr"]
    assert summary["a"]["high"] > summary["b"]["low"]  # the intervals of the arms overlap
    difference = summary["b"]["difference"]
    assert 0.3 < difference["low"] < difference["mean"] < difference["high"] < 0.7 and "difference" not in summary["a"]


def test_videos_without_a_value_do_not_count():
    matched, scores = comparison(4, 1)
    scores["b", "0_0"] = {"metrics": {}}
    summary = summarise(matched, scores)
    assert list(summary) == ["psnr"] and summary["psnr"]["b"]["difference"]["mean"] == pytest.approx(0.5, abs=0.3)


@pytest.mark.parametrize(
    "low, high, better, said",
    [
        (-1, 1, "higher", "even"),
        (0, 0, "lower", "even"),
        (1, 2, "higher", "better"),
        (1, 2, "lower", "worse"),
        (-2, -1, "lower", "better"),
        (-2, -1, "", "apart"),
    ],
)
def test_verdicts(low, high, better, said):
    assert verdict({"mean": (low + high) / 2, "low": low, "high": high}, better) == said


def test_a_difference_that_few_prompts_have_is_not_judged(tmp_path):
    matched, scores = comparison(FEW_PROMPTS + 2, 1)
    for (_, name), score in scores.items():
        score["metrics"]["motion_score"] = score["metrics"]["psnr"]
        if name not in ("0_0", "1_0"):
            del score["metrics"]["psnr"]
    page = write_report(tmp_path, matched, scores, arms={"a": "", "b": ""}, notes=[]).read_text()
    assert 'class="better"' not in page and 'class="apart"' in page


def test_seeds_that_no_two_prompts_share_are_not_resampled():
    def named(seed):
        matched, scores = comparison(30, 1)
        return [[clip._replace(seed=seed(int(clip.group))) for clip in row] for row in matched], scores

    same, own = (summarise(*named(seed))["psnr"]["b"] for seed in (lambda prompt: 0, lambda prompt: 100 + 7 * prompt))
    assert same == own


@pytest.mark.parametrize("prompts, coloured", [(FEW_PROMPTS, True), (FEW_PROMPTS - 1, False)])
def test_few_prompts_are_said_and_not_judged(tmp_path, prompts, coloured):
    matched, scores = comparison(prompts)
    page = write_report(tmp_path, matched, scores, arms={"a": "", "b": ""}, notes=[]).read_text()
    assert ('class="better"' in page) is coloured and ("intervals are too narrow" in page) is not coloured


def test_arms_named_by_numbers_keep_their_order(tmp_path):
    """JavaScript sorts keys that are numbers, and videos would be under the wrong name of the table."""
    matched, scores = comparison(4, 1, arms=("10", "9"))
    page = write_report(tmp_path, matched, scores, arms={"10": "", "9": ""}, notes=[]).read_text()
    assert '"order": ["10", "9"]' in page and "arms = data.order" in page


def test_plot_is_in_scale():
    plot = svg_intervals([{"mean": 1, "low": 0, "high": 2}, {"mean": 4, "low": 3, "high": 5}])
    (first, second) = (float(x) for x in re.findall(r'cx="([\d.]+)"', plot))
    ends = [(float(a), float(b)) for a, b in re.findall(r'x1="([\d.]+)" x2="([\d.]+)"', plot)]
    assert first == pytest.approx(sum(ends[0]) / 2, abs=0.1) and second - first == pytest.approx(
        3 * (ends[0][1] - ends[0][0]) / 2, abs=0.3
    )
    assert "circle" in svg_intervals([{"mean": 1, "low": None, "high": None}])
    assert svg_intervals([{"mean": None, "low": None, "high": None}]) == ""


def test_distances_are_to_the_first_arm():
    matched, scores = comparison(5, 1)
    rng = np.random.default_rng(1)
    for (arm, _), score in scores.items():
        score["embedding"] = list(rng.normal(0 if arm == "a" else 3, 1, 2))
    distances = set_distances(matched, scores)
    assert list(distances) == ["b"] and distances["b"]["frechet_distance"] > 5
    assert set_distances(*comparison(5, 1)) == {}


def test_arms_whose_names_are_grouped_differently_are_still_paired():
    """One folder has more files than the other, so their names are read as other prompts and seeds."""
    names = ("cat_1", "cat_2")
    of_a = {"cat_1": ("cat", 1), "cat_2": ("cat", 2)}
    of_b = {"cat_1": ("cat_1", 0), "cat_2": ("cat_2", 0)}
    matched, scores = [], {}
    for name in names:
        matched.append([Clip(arm, name, "", *of[name], Path(name), None) for arm, of in (("a", of_a), ("b", of_b))])
        scores["a", name] = {"metrics": {"psnr": 10.0 * len(matched)}}
        scores["b", name] = {"metrics": {"psnr": 10.0 * len(matched) + 1}}
    difference = summarise(matched, scores)["psnr"]["b"]["difference"]
    assert difference["mean"] == difference["low"] == difference["high"] == 1
