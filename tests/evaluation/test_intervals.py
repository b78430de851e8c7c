"""Intervals against published values and simulated coverage."""

import math

import numpy as np
import pytest
from emu_video.evaluation.intervals import (
    bootstrap,
    finite,
    half_width,
    mean_text,
    share_interval,
    share_of_groups,
    share_over_prompts,
    share_text,
)


def test_wilson_interval_of_a_published_example():
    """Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I: 81 of 263."""
    assert share_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert share_interval(0, 20) == pytest.approx((0, 0.1611), abs=1e-4)


def test_half_width_is_students():
    assert half_width([1.0, 2.0, 3.0]) == pytest.approx(4.303 * 1 / math.sqrt(3), rel=1e-3)
    assert math.isnan(half_width([1.0]))


def test_texts():
    assert (
        mean_text([1.0, None, math.nan, 3.0]) == "2.00 ± 12.71"
        and mean_text([None]) == "none"
        and mean_text([2]) == "2.00"
    )
    assert share_text([True, True, False, True]) == "75.0% (30.1% to 95.4%, n = 4)" and share_text([]) == "none"
    assert list(finite([None, math.nan, 2])) == [2]


def test_bootstrap_covers_the_mean_when_prompts_and_seeds_differ():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(100):
        values = rng.normal(0, 1, (16, 1)) + rng.normal(0, 0.5, (1, 12)) + rng.normal(0, 0.3, (16, 12))
        _, low, high = bootstrap(values, repeats=400, seed=trial)
        covered += low <= 0 <= high
    assert covered >= 85


def test_bootstrap_of_independent_cells_would_be_too_narrow():
    """All the spread is between prompts: 20 seeds each do not make the interval narrower."""
    rng = np.random.default_rng(1)
    values = rng.normal(0, 1, (12, 1)).repeat(20, 1)
    _, low, high = bootstrap(values)
    assert high - low > 0.7 * 2 * half_width(values[:, 0])


def test_bootstrap_leaves_missing_cells_out():
    values = np.array([[1.0, np.nan], [3.0, 3.0]])
    mean, low, high = bootstrap(values)
    assert mean == pytest.approx(7 / 3) and 1 <= low <= mean <= high <= 3
    assert all(map(math.isnan, bootstrap(np.full((2, 2), np.nan))))
    mean, low, _ = bootstrap(np.array([[5.0]]))
    assert mean == 5 and math.isnan(low)


def test_share_with_one_value_per_prompt_is_wilsons():
    wins = np.array([[1.0, np.nan]] * 81 + [[np.nan, 0.0]] * 182)
    assert share_over_prompts(wins) == pytest.approx((81 / 263, 0.2553, 0.3662), abs=1e-4)
    assert share_over_prompts(np.array([[0.5], [1.0]]))[0] == 0.75
    assert all(map(math.isnan, share_over_prompts(np.full((2, 2), np.nan))))


def test_seeds_of_one_prompt_do_not_narrow_the_interval_of_a_share():
    share, low, high = share_over_prompts(np.ones((8, 10)))
    assert (share, high) == (1, 1) and low == pytest.approx(0.6756, abs=1e-4)  # Wilson's of 8 of 8, not of 80 of 80


def test_share_covers_the_truth_when_prompts_differ():
    rng, covered = np.random.default_rng(0), 0
    for _ in range(60):
        chances = rng.beta(0.7, 0.7, (8, 1))
        _, low, high = share_over_prompts((rng.random((8, 10)) < chances).astype(float))
        covered += low <= 0.5 <= high
    assert covered >= 55  # Wilson's interval over 80 independent pairs covers it in 62 % of the cases


def test_prompts_with_different_numbers_of_pairs():
    won = [[1.0]] * 36 + [[0.0]] * 4
    assert share_of_groups(won) == pytest.approx((0.9, 0.7695, 0.9604), abs=1e-4)  # Wilson's
    share, low, high = share_of_groups([*won[:-1], [0.0, 0.0]])  # one prompt has a second pair
    assert share == 36 / 41 and 0.72 < low < 0.78 and 0.94 < high < 0.98
    assert all(map(math.isnan, share_of_groups([])))
    _, low, high = share_of_groups([[1.0] * 40])
    assert low < 0.25 and high == 1.0
