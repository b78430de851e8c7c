"""Let the reader judge two folders of pocket videos as a person does on the page of `run.py judge`.

The reader knows what a caption asks for, so it answers both questions by measurement: each reason is compared between
the two videos, and a difference below its threshold does not count. Its votes go into the same votes.sqlite, under the
name "reader", so that `run.py judge A B` shows its results below those of people.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import numpy as np

from ...evaluation.juice.__main__ import open_session, session_parser
from ...evaluation.juice.questions import QUESTIONS
from ...evaluation.juice.session import Session
from ...evaluation.juice.statistics import Agreement, Outcome, agreement_of, outcomes, people_and_reader, raters
from ...evaluation.juice.store import READER, TIE, Answer
from ...evaluation.tables import markdown
from ...evaluation.videos import read
from ...launcher.environment import LauncherError
from ...training.checkpoint import DiskFull
from .caption import Wanted, read_caption
from .reasons import MEASURES
from .watched import Watched

MOST = 4.0
"""Largest lead of one reason, in thresholds, so that one gross difference does not hide all others."""

Measured = dict[str, float]
"""Reason -> measured value, higher is better, NaN where it cannot be measured."""


def measured(frames: np.ndarray, wanted: Wanted) -> Measured:
    """Measure every reason on a video, uint8 [T, h, h, 3] RGB.

    Raises:
        ValueError: the frames are not square.
    """
    height, width = frames.shape[1:3]
    if height != width:
        raise ValueError(f"The videos have {width} x {height} pixels. The reader needs square frames: crop the videos.")
    video = Watched(frames, wanted)
    return {key: each.measure(video) for reasons in MEASURES.values() for key, each in reasons.items()}


def leads(first: Measured, second: Measured, question: str) -> dict[str, float]:
    """Return how far `first` leads in each reason of a question, in thresholds: 0 below one, at most +-MOST."""
    result = {}
    for key, each in MEASURES[question].items():
        lead = (first[key] - second[key]) / each.threshold
        result[key] = float(np.clip(lead, -MOST, MOST)) if abs(lead) >= 1 else 0.0  # NaN compares as False
    return result


def verdict(a: Measured, b: Measured) -> dict[str, Answer]:
    """Answer both questions about the videos a and b.

    The video with the larger sum of leads wins. The reasons are the qualities in which it leads. Equal sums are a tie.
    """
    answers = {}
    for question in QUESTIONS:
        lead = leads(a, b, question)
        total = sum(lead.values())
        arm = "a" if total > 0 else "b"
        reasons = tuple(key for key, value in lead.items() if value * total > 0)
        answers[question] = Answer(arm, reasons) if total else Answer(TIE, ())
    return answers


def judge(session: Session, report=print) -> None:
    """Answer all tasks of the rater "reader" in a session, attention checks included.

    Raises:
        ValueError: a caption does not describe one shape.
    """
    wanted = {name: read_caption(pair.prompt) for name, pair in session.pairs.items()}
    while True:
        task, done, total = session.next_task(READER)
        if task is None:
            return
        left, right = (
            measured(read(session.video(task, side)).frames, wanted[task.name]) for side in ("left", "right")
        )
        sides = {task.left: left, task.right: right}
        session.store.add(READER, task, verdict(sides["a"], sides["b"]), 0.0)
        if (done + 1) % 10 == 0 or done + 1 == total:
            report(f"{done + 1} of {total} judged")


def outcome_table(found: Mapping[str, Outcome], arms: Mapping[str, str]) -> str:
    """Return win rates of folder A and the most frequent reasons of both sides."""
    rows = []
    for key, outcome in found.items():
        rate = f"{outcome.win_rate:.0%} ({outcome.low:.0%} to {outcome.high:.0%}, n = {outcome.pairs})"
        rows.append((QUESTIONS[key].text, rate, _often(outcome, 0), _often(outcome, 1)))
    return markdown(("question", f"{arms['a']} wins", "its reasons", f"reasons of {arms['b']}"), rows)


def _often(outcome: Outcome, side: int) -> str:
    shares = {key: pair[side] for key, pair in outcome.reasons.items() if pair[side] > 0}
    return ", ".join(f"{key} {share:.0%}" for key, share in sorted(shares.items(), key=lambda item: -item[1])) or "none"


def agreement_table(found: Mapping[str, Agreement]) -> str:
    """Return how often the reader and people agree."""
    rows = [
        (QUESTIONS[key].text, f"{each.pairs}", f"{each.ties}", f"{each.share:.0%} ({each.low:.0%} to {each.high:.0%})",
         f"{each.kappa:.2f}")
        for key, each in found.items()
    ]  # fmt: skip
    return markdown(("question", "pairs", "ties of the reader", "same answer without ties", "kappa"), rows)


def main(argv: Sequence[str]) -> int:
    parser = session_parser("run.py pocket judge", __doc__)
    try:
        session = open_session(parser.parse_args(argv))
        judge(session)
    except (ValueError, DiskFull) as error:
        raise LauncherError(str(error)) from error
    people, own = people_and_reader(session.store.votes())
    print(outcome_table(outcomes(own, session.groups), session.arms))
    attention = raters(own)[READER]
    print(f"\nKnown answers right: {attention.known_right:.0%}. Repeats answered alike: {attention.repeats_alike:.0%}.")
    careful = raters(people)
    if people := [vote for vote in people if careful[vote.rater].counts]:
        print(f"\n{agreement_table(agreement_of(own, people, session.groups))}")
    session.store.close()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except LauncherError as failure:
        sys.exit(f"run.py pocket judge: {failure}")
