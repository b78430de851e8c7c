"""Win rates, agreement and reasons of a set of votes."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from statsmodels.stats.inter_rater import fleiss_kappa

from ..intervals import share_of_groups
from .questions import QUESTIONS, Question
from .store import READER, TIE, Vote

PASSING = 0.7
"""Share of known answers that a rater has to get right to be counted."""

FEWEST_CHECKS = 3
"""Below this number of known answers every rater is counted."""


@dataclass(frozen=True)
class Outcome:
    """The result of one question.

    Attributes:
        pairs: pairs with at least one counted vote.
        votes: counted votes.
        wins: pairs that arm a wins by majority; a tie counts one half, and so does a vote for a tie.
        win_rate, low, high: wins / pairs, with its 95 % interval over prompts, see `share_of_groups`.
        split, complete: shares of the pairs with two votes or more whose majority is the narrowest possible, or whose
            votes all agree. NaN without such a pair.
        kappa: Fleiss' kappa over the pairs that have the most common number of votes; NaN below two votes a pair.
        reasons: reason -> (share of the votes for a that tick it, the same for b).
    """

    pairs: int
    votes: int
    wins: float
    win_rate: float
    low: float
    high: float
    split: float
    complete: float
    kappa: float
    reasons: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Rater:
    """Attention of a rater: share of correct known answers, and of repeated pairs with the same answer; NaN if none."""

    votes: int
    known_right: float
    repeats_alike: float
    counts: bool


def raters(votes: Sequence[Vote]) -> dict[str, Rater]:
    """Return the attention of each rater: below `PASSING` on `FEWEST_CHECKS` known answers or more, none counts."""
    result = {}
    for name in sorted({vote.rater for vote in votes}):
        own = [vote for vote in votes if vote.rater == name]
        known = [vote.answers["quality"].arm == "a" for vote in own if vote.kind == "known"]
        pairs = {vote.name: vote for vote in own if vote.kind == "pair"}
        alike = [
            vote.answers["quality"].arm == pairs[vote.name].answers["quality"].arm
            for vote in own
            if vote.kind == "repeat" and vote.name in pairs
        ]
        right = _mean(known)
        counts = len(known) < FEWEST_CHECKS or right >= PASSING
        result[name] = Rater(len(pairs), right, _mean(alike), counts)
    return result


def people_and_reader(votes: Sequence[Vote]) -> tuple[list[Vote], list[Vote]]:
    """Return the votes of people, and those of the automatic judge."""
    people, reader = ([vote for vote in votes if (vote.rater == READER) == is_reader] for is_reader in (False, True))
    return people, reader


def outcomes(votes: Sequence[Vote], prompts: Mapping[str, str] | None = None) -> dict[str, Outcome]:
    """Return the outcome of each question over the pairs judged by the raters that count.

    prompts: name of a pair -> its prompt. Pairs of one prompt are not independent. Default: each pair has its own.
    """
    attention = raters(votes)
    counted = [vote for vote in votes if vote.kind == "pair" and attention[vote.rater].counts]
    return {key: _outcome(question, counted, prompts or {}) for key, question in QUESTIONS.items()}


def _outcome(question: Question, votes: Sequence[Vote], prompts: Mapping[str, str]) -> Outcome:
    by_pair: dict[str, list[str]] = defaultdict(list)
    for vote in votes:
        by_pair[vote.name].append(vote.answers[question.key].arm)
    won = {name: (np.sign(2 * _for_a(arms) - len(arms)) + 1) / 2 for name, arms in by_pair.items()}
    win_rate, low, high = _share(won, prompts)
    several = [arms for arms in by_pair.values() if len(arms) > 1]
    return Outcome(
        pairs=len(by_pair),
        votes=len(votes),
        wins=float(sum(won.values())),
        win_rate=win_rate,
        low=low,
        high=high,
        split=_mean(abs(2 * _for_a(arms) - len(arms)) <= 1 for arms in several),
        complete=_mean(len(set(arms)) == 1 for arms in several),
        kappa=agreement(several),
        reasons={reason.key: _reason_shares(question.key, reason.key, votes) for reason in question.reasons},
    )


def _share(won: Mapping[str, float], prompts: Mapping[str, str]) -> tuple[float, float, float]:
    """Return (share, low, high) of pairs that are won, name -> 0, 0.5 or 1; NaN without pairs."""
    by_prompt: dict[str, list[float]] = defaultdict(list)
    for name, value in won.items():
        by_prompt[prompts.get(name, name)].append(value)
    return share_of_groups(list(by_prompt.values()))


def agreement(by_pair: Iterable[Sequence[str]]) -> float:
    """Return Fleiss' kappa of votes over the pairs with the most common number of votes; NaN if undefined.

    Votes are "a", "b" or TIE. Where all votes of all pairs are alike there is nothing to distinguish from chance, and
    kappa is undefined.
    """
    pairs = list(by_pair)
    if not pairs:
        return math.nan
    size = Counter(map(len, pairs)).most_common(1)[0][0]
    table = np.array([[list(arms).count(arm) for arm in ("a", "b", TIE)] for arms in pairs if len(arms) == size])
    if np.count_nonzero(table.sum(0)) < 2:
        return math.nan
    return float(fleiss_kappa(table))


@dataclass(frozen=True)
class Agreement:
    """Agreement of one rater with the majority of others on one question.

    Attributes:
        pairs: pairs that both sides judged and where the others have a majority.
        ties: of these, how many the one rater calls a tie. They are left out of the numbers below.
        share, low, high: share of equal answers with its 95 % interval over prompts.
        kappa: Fleiss' kappa of the two sides.
    """

    pairs: int
    ties: int
    share: float
    low: float
    high: float
    kappa: float


def agreement_of(
    own: Sequence[Vote], others: Sequence[Vote], prompts: Mapping[str, str] | None = None
) -> dict[str, Agreement]:
    """Return the agreement of one rater's votes with the majority of the others', for each question.

    prompts: as those of `outcomes`.
    """
    result = {}
    for key in QUESTIONS:
        given = {vote.name: vote.answers[key].arm for vote in own if vote.kind == "pair"}
        by_pair: dict[str, list[str]] = defaultdict(list)
        for vote in others:
            if vote.kind == "pair" and vote.name in given:
                by_pair[vote.name].append(vote.answers[key].arm)
        leads = {name: 2 * _for_a(arms) - len(arms) for name, arms in by_pair.items()}
        both = {name: (given[name], "a" if lead > 0 else "b") for name, lead in leads.items() if lead}
        decided = {name: pair for name, pair in both.items() if pair[0] != TIE}
        same = {name: float(one == other) for name, (one, other) in decided.items()}
        ties = len(both) - len(decided)
        result[key] = Agreement(len(both), ties, *_share(same, prompts or {}), agreement(decided.values()))
    return result


def _reason_shares(question: str, reason: str, votes: Sequence[Vote]) -> tuple[float, float]:
    answers = [vote.answers[question] for vote in votes]
    shares = [_mean(reason in answer.reasons for answer in answers if answer.arm == arm) for arm in ("a", "b")]
    return shares[0], shares[1]


def _for_a(arms: Sequence[str]) -> float:
    return sum(1.0 if arm == "a" else 0.5 * (arm == TIE) for arm in arms)


def _mean(flags: Iterable[bool]) -> float:
    values = list(flags)
    return sum(values) / len(values) if values else math.nan


def summary(votes: Sequence[Vote], prompts: Mapping[str, str] | None = None) -> dict:
    """Return outcomes and raters as JSON-ready dictionaries; NaN becomes None.

    "outcomes" are those of people, "reader" those of the automatic judge, {} if it has not judged. prompts: as those of
    `outcomes`.
    """
    people, reader = people_and_reader(votes)
    result = {
        "outcomes": {key: asdict(outcome) for key, outcome in outcomes(people, prompts).items()},
        "reader": {key: asdict(outcome) for key, outcome in outcomes(reader, prompts).items()} if reader else {},
        "raters": {name: asdict(rater) for name, rater in raters(votes).items()},
    }
    return _without_nan(result)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
