"""Compare the measured videos of the arms: win rates, and whether the paper's direction is reproduced."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from ...evaluation.intervals import FEW_PROMPTS, bootstrap, interval_text, share_over_prompts
from ...evaluation.juice.questions import QUESTIONS
from ...evaluation.juice.store import TIE, Answer
from ...evaluation.tables import markdown
from ..evaluate.judge import Measured, verdict
from ..evaluate.reasons import MEASURES
from .measured import Found
from .recipes import COMPARISONS, Comparison

NOT_RESOLVED = "not resolved"
DIRECTIONS = {True: ("reproduced", "contradicted"), False: ("first better", "second better")}
"""Words for a comparison that the paper has, and for one that it has not."""
FEW_SEEDS = 2
"""Number of training seeds below which nothing counts as resolved: one training may differ from the next by chance."""


@dataclass(frozen=True)
class WinRate:
    """Share of the pairs that the first arm wins; a tie counts one half. low, high: 95 % interval over captions and
    training seeds, see `share_over_prompts`. prompts, seeds: number of captions and of training seeds. ties: share of
    ties. reasons: the most frequent reasons of the first arm's wins."""

    rate: float
    low: float
    high: float
    prompts: int
    seeds: int
    ties: float
    reasons: tuple[str, ...]

    def direction(self, in_paper: bool = True) -> str:
        """Return the direction in a word. in_paper: the paper says that the first arm wins."""
        first, second = DIRECTIONS[in_paper]
        if self.prompts < FEW_PROMPTS or self.seeds < FEW_SEEDS:
            return NOT_RESOLVED
        if self.low > 0.5:
            return first
        return second if self.high < 0.5 else NOT_RESOLVED


def win_rates(answers: Mapping[tuple[int, int], Mapping[str, Answer]]) -> dict[str, WinRate]:
    """Return the win rate of the first arm for each question.

    answers: (prompt, seed) -> question -> answer, where "a" is the first arm.
    """
    result = {}
    for question in QUESTIONS:
        values = grid({key: {"a": 1.0, "b": 0.0, TIE: 0.5}[each[question].arm] for key, each in answers.items()})
        wins = [each[question] for each in answers.values() if each[question].arm == "a"]
        count = {key: sum(key in answer.reasons for answer in wins) for key in MEASURES[question]}
        often = tuple(sorted((key for key in count if count[key]), key=lambda key: -count[key])[:3])
        ties = sum(each[question].arm == TIE for each in answers.values()) / len(answers)
        result[question] = WinRate(*share_over_prompts(values), len(values), values.shape[1], ties, often)
    return result


def compare(found: Found, each: Comparison) -> dict[str, WinRate]:
    """Return the win rates of one comparison from the measured reasons of both arms."""
    first, second = ({key[1:]: values for key, values in found.items() if key[0] == side} for side in each.sides)
    return win_rates({key: verdict(first[key], second[key]) for key in first if key in second})


def win_table(rates: Mapping[str, Mapping[str, WinRate]]) -> str:
    """Return the table beside Table 1 of the paper. rates: key of the comparison -> question -> win rate."""
    rows = []
    for each in COMPARISONS:
        if each.key in rates:
            quality, faithfulness = (rates[each.key][key] for key in ("quality", "faithfulness"))
            paper = " / ".join(f"{value:.1f}" for value in each.paper) if each.paper else "not measured"
            rows.append(
                (each.key, each.title, str(quality.seeds), paper, _rate(quality), quality.direction(bool(each.paper)),
                 _rate(faithfulness), faithfulness.direction(bool(each.paper)),
                 ", ".join((*quality.reasons, *faithfulness.reasons)) or "none")
            )  # fmt: skip
    header = (
        "",
        "the first against the second",
        "seeds",
        "paper, Q / F %",
        "Q %",
        "",
        "F %",
        "",
        "reasons of the first",
    )
    return markdown(header, rows)


def _rate(win: WinRate) -> str:
    return f"{100 * win.rate:.0f} ({100 * win.low:.0f} to {100 * win.high:.0f}), {100 * win.ties:.0f} ties"


def measures_table(found: Found, unseen: Collection[int] = ()) -> str:
    """Return the mean of each measured reason for each arm, with 95 % intervals; higher is better.

    unseen: captions that get a second row, for arms with own first frames.
    """
    keys = [key for reasons in MEASURES.values() for key in reasons]
    rows = []
    for side in dict.fromkeys(side for side, _, _ in found):
        own = {key[1:]: values for key, values in found.items() if key[0] == side}
        rows.append((side.title, *(_mean_cell(own, key) for key in keys)))
        if side.own_frames and (rare := {key: values for key, values in own.items() if key[0] in unseen}):
            rows.append((f"{side.title}, unseen", *(_mean_cell(rare, key) for key in keys)))
    return markdown(("arm", *keys), rows)


def _mean_cell(found: Mapping[tuple[int, int], Measured], key: str) -> str:
    """Return the mean of one reason, with its bootstrap interval over prompts and seeds if it has one."""
    return interval_text(*bootstrap(grid({cell: values[key] for cell, values in found.items()})))


def grid(values: Mapping[tuple[int, int], float]) -> np.ndarray:
    """Return an array [prompts, seeds] of values by (prompt, seed), NaN where there is none."""
    prompts, seeds = (sorted({key[i] for key in values}) for i in range(2))
    result = np.full((len(prompts), len(seeds)), math.nan)
    for (prompt, seed), value in values.items():
        result[prompts.index(prompt), seeds.index(seed)] = value
    return result
