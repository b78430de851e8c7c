"""Votes in a SQLite file. Each vote is on the disk before the next pair is shown."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .questions import QUESTIONS
from .tasks import Task

SCHEMA = """
create table if not exists session (key text primary key, value text not null);
create table if not exists votes (
    rater text not null, task text not null, kind text not null, name text not null, shown_left text not null,
    answers text not null, seconds real not null, voted_at real not null,
    primary key (rater, task)
);
"""
SESSION = "session"
READER = "reader"
"""Rater of the votes of `run.py pocket judge`, an automatic judge."""
TIE = "tie"
"""Arm of an answer without a preference, and without reasons. Only an automatic judge gives it, never the page."""


class Answer(NamedTuple):
    """The chosen arm of a question, "a", "b" or TIE, and the ticked reasons."""

    arm: str
    reasons: tuple[str, ...]


class Vote(NamedTuple):
    """One answered task. answers: question key -> Answer."""

    rater: str
    kind: str
    name: str
    shown_left: str
    answers: dict[str, Answer]
    seconds: float
    voted_at: float


class Store:
    """The votes of one session. Safe for several threads and processes (write-ahead log)."""

    def __init__(self, path: Path, session: Mapping[str, Any]):
        """Open or create the file.

        Args:
            session: what the votes depend on, such as the two folders and the seed, by name.

        Raises:
            ValueError: the file holds votes of another session.
        """
        self.path = path
        self.lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(path, check_same_thread=False, timeout=30, isolation_level=None)
            self.connection.execute("pragma journal_mode = wal")
            self.connection.execute("pragma synchronous = full")
            self.connection.executescript(SCHEMA)
        except (OSError, sqlite3.DatabaseError) as error:
            raise ValueError(f"Votes cannot be kept in {path} ({error}). Choose another --folder.") from None
        now = json.dumps(dict(session), sort_keys=True)
        self.connection.execute("insert or ignore into session values (?, ?)", (SESSION, now))
        (before,) = self.connection.execute("select value from session where key = ?", (SESSION,)).fetchone()
        if before != now:
            if self.votes():
                then = json.loads(before)
                changed = ", ".join(key for key, value in session.items() if then.get(key) != value)
                raise ValueError(
                    f"{path} holds votes of another comparison (different: {changed}). Choose another --folder."
                )
            self.connection.execute("update session set value = ? where key = ?", (now, SESSION))

    def add(self, rater: str, task: Task, answers: Mapping[str, Answer], seconds: float) -> None:
        """Keep a vote; a second one for the same task replaces the first.

        Raises:
            ValueError: a question has no answer or no reason, or an unknown one.
        """
        check_answers(answers)
        packed = json.dumps({key: [answer.arm, list(answer.reasons)] for key, answer in answers.items()})
        row = (rater, task.key, task.kind, task.name, task.left, packed, seconds, time.time())
        with self.lock:
            self.connection.execute("insert or replace into votes values (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def done(self, rater: str) -> set[str]:
        """Return the keys of the tasks that a rater has answered."""
        with self.lock:
            return {key for (key,) in self.connection.execute("select task from votes where rater = ?", (rater,))}

    def spelling(self, rater: str) -> str:
        """Return a rater's name as in earlier votes, which may have other capitals or composed letters."""
        with self.lock:
            names = [name for (name,) in self.connection.execute("select distinct rater from votes")]
        return next((name for name in names if _alike(name) == _alike(rater)), rater)

    def votes(self) -> list[Vote]:
        """Return all votes in the order in which they were given."""
        columns = "rater, kind, name, shown_left, answers, seconds, voted_at"
        with self.lock:
            rows = self.connection.execute(f"select {columns} from votes order by voted_at").fetchall()
        return [
            Vote(rater, kind, name, shown_left, _unpack(answers), seconds, voted_at)
            for rater, kind, name, shown_left, answers, seconds, voted_at in rows
        ]

    def close(self) -> None:
        with self.lock:
            self.connection.close()


def check_answers(answers: Mapping[str, Answer]) -> None:
    """Raise ValueError unless every question has an arm and at least one of its reasons, or is a tie without any."""
    for key, question in QUESTIONS.items():
        answer = answers.get(key)
        if answer == Answer(TIE, ()):
            continue
        if answer is None or answer.arm not in ("a", "b"):
            raise ValueError(f'"{question.text}" has no answer: choose the left or the right video.')
        if not answer.reasons:
            raise ValueError(f'"{question.text}" has no reason: tick at least one.')
        if unknown := sorted(set(answer.reasons) - {reason.key for reason in question.reasons}):
            raise ValueError(f'"{question.text}" has no reason {unknown[0]!r}.')
    if unknown := sorted(answers.keys() - QUESTIONS.keys()):
        raise ValueError(f"There is no question {unknown[0]!r}.")


def _alike(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _unpack(text: str) -> dict[str, Answer]:
    return {key: Answer(arm, tuple(reasons)) for key, (arm, reasons) in json.loads(text).items()}
