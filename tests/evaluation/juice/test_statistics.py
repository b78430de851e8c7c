"""Raters with known preferences give back the known numbers."""

from __future__ import annotations

import math
import random

import pytest
from emu_video.evaluation.juice import statistics
from emu_video.evaluation.juice.store import Answer, Vote


def vote(rater: str, name: str, arm: str, kind: str = "pair", reasons: tuple[str, ...] = ("sharpness",)) -> Vote:
    answers = {"quality": Answer(arm, reasons), "faithfulness": Answer(arm, ("spatial",))}
    return Vote(rater, kind, name, "a", answers, 1.0, 0.0)


def simulated(pairs: int, raters: int, chance: float, seed: int = 0) -> list[Vote]:
    """Votes of independent raters who each prefer arm a with a fixed chance."""
    rng = random.Random(seed)
    return [vote(f"r{r}", f"p{p}", "a" if rng.random() < chance else "b") for p in range(pairs) for r in range(raters)]


def test_majority_of_five_wins_as_often_as_the_binomial_law_says():
    outcome = statistics.outcomes(simulated(4000, 5, 0.7))["quality"]
    expected = sum(math.comb(5, k) * 0.7**k * 0.3 ** (5 - k) for k in (3, 4, 5))
    assert outcome.pairs == 4000 and outcome.votes == 20_000
    assert outcome.win_rate == pytest.approx(expected, abs=0.015)
    assert outcome.low < expected < outcome.high
    assert outcome.complete == pytest.approx(0.7**5 + 0.3**5, abs=0.02)
    assert outcome.split == pytest.approx(10 * (0.7**3 * 0.3**2 + 0.7**2 * 0.3**3), abs=0.02)


def test_independent_raters_agree_no_more_than_by_chance():
    assert statistics.outcomes(simulated(3000, 5, 0.6))["quality"].kappa == pytest.approx(0, abs=0.02)


def test_raters_who_see_the_same_difference_agree():
    votes = [vote(f"r{r}", f"p{p}", "a" if p % 2 else "b") for p in range(20) for r in range(5)]
    outcome = statistics.outcomes(votes)["quality"]
    assert outcome.kappa == pytest.approx(1.0)
    assert (outcome.win_rate, outcome.complete, outcome.split) == (0.5, 1.0, 0.0)


def test_kappa_of_a_published_table():
    """Fleiss 1971 has many categories; this table of two is worked by hand: P = 2/3, P_e = 1/2, kappa = 1/3."""
    assert statistics.agreement(["aaa", "bbb", "aab", "abb"]) == pytest.approx(1 / 3)


def test_a_tie_is_half_a_win():
    votes = [vote("r1", "p", "a"), vote("r2", "p", "b")]
    assert statistics.outcomes(votes)["quality"].win_rate == 0.5


def test_a_vote_for_a_tie_is_half_a_win():
    outcome = statistics.outcomes([vote("r1", "p", "a"), vote("r1", "q", "tie", reasons=())])["quality"]
    assert (outcome.pairs, outcome.wins, outcome.reasons["sharpness"]) == (
        2,
        1.5,
        (1.0, pytest.approx(math.nan, nan_ok=True)),
    )
    assert statistics.agreement([["a", "tie"], ["b", "b"]]) == pytest.approx(0.2)  # P = 1/2, P_e = 3/8


def test_shares_of_reasons():
    votes = [
        vote("r1", "p1", "a", reasons=("sharpness", "motion")),
        vote("r1", "p2", "a", reasons=("motion",)),
        vote("r1", "p3", "b", reasons=("consistency",)),
    ]
    reasons = statistics.outcomes(votes)["quality"].reasons
    assert reasons["motion"] == (1.0, 0.0)
    assert reasons["sharpness"] == (0.5, 0.0)
    assert reasons["consistency"] == (0.0, 1.0)


def test_inattentive_raters_do_not_count():
    careless = [vote("careless", f"p{i}", "b") for i in range(5)]
    careless += [vote("careless", f"k{i}", "b", kind="known") for i in range(3)]
    careful = [vote("careful", f"p{i}", "a") for i in range(5)] + [vote("careful", "k0", "a", kind="known")]
    careful += [vote("careful", "p0", "a", kind="repeat"), vote("careful", "p1", "b", kind="repeat")]
    found = statistics.raters(careless + careful)
    assert (found["careless"].known_right, found["careless"].counts) == (0.0, False)
    assert (found["careful"].known_right, found["careful"].repeats_alike, found["careful"].counts) == (1.0, 0.5, True)
    outcome = statistics.outcomes(careless + careful)["quality"]
    assert (outcome.pairs, outcome.votes, outcome.win_rate) == (5, 5, 1.0)


def test_pairs_of_one_prompt_count_as_one_in_intervals():
    votes = [vote("r", f"p{i}_{seed}", "a") for i in range(8) for seed in range(10)]
    prompts = {each.name: each.name.split("_")[0] for each in votes}
    outcome = statistics.outcomes(votes, prompts)["quality"]
    assert (outcome.pairs, outcome.wins, outcome.win_rate) == (80, 80, 1)
    assert (outcome.low, outcome.high) == (pytest.approx(0.6756, abs=1e-4), 1)  # Wilson's of 8 of 8
    agreement = statistics.agreement_of(votes, votes, prompts)["quality"]
    assert (agreement.pairs, agreement.share, agreement.low) == (80, 1, outcome.low)
    alone = statistics.outcomes(votes[:20])["quality"]
    assert (alone.low, alone.high) == (pytest.approx(0.8389, abs=1e-4), 1)  # 20 of 20


def test_the_reader_is_not_pooled_with_people():
    votes = [vote(rater, f"p{i}", arm) for rater, arm in (("ann", "b"), ("reader", "a")) for i in range(20)]
    result = statistics.summary(votes)
    people, reader = result["outcomes"]["quality"], result["reader"]["quality"]
    assert (people["votes"], people["win_rate"], people["high"]) == (20, 0, pytest.approx(0.1611, abs=1e-4))
    assert (reader["votes"], reader["win_rate"]) == (20, 1)
    assert set(result["raters"]) == {"ann", "reader"} and statistics.summary(votes[:20])["reader"] == {}


def test_no_votes_give_no_numbers():
    result = statistics.summary([])
    assert result["outcomes"]["quality"]["win_rate"] is None
    assert result["raters"] == {}


def test_one_rater_has_a_win_rate_but_no_agreement():
    outcome = statistics.outcomes([vote("r", f"p{i}", "a") for i in range(4)])["quality"]
    assert outcome.win_rate == 1.0 and math.isnan(outcome.kappa) and math.isnan(outcome.split)
