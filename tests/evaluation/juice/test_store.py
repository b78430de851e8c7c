"""Votes survive kill -9, several raters at once, and are refused when incomplete."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest
from emu_video.evaluation.juice.store import Answer, Store
from emu_video.evaluation.juice.tasks import Task

ANSWERS = {"quality": Answer("a", ("sharpness",)), "faithfulness": Answer("b", ("spatial", "temporal"))}
SESSION = {"a": "one", "b": "two"}


def test_a_vote_comes_back_and_a_second_one_replaces_it(tmp_path):
    store = Store(tmp_path / "votes.sqlite", SESSION)
    task = Task("pair", "cat", "b", "a")
    store.add("ann", task, ANSWERS, 2.5)
    store.add("ann", task, {**ANSWERS, "quality": Answer("b", ("motion",))}, 3.0)
    (vote,) = Store(tmp_path / "votes.sqlite", SESSION).votes()
    assert (vote.rater, vote.kind, vote.name, vote.shown_left, vote.seconds) == ("ann", "pair", "cat", "b", 3.0)
    assert vote.answers == {**ANSWERS, "quality": Answer("b", ("motion",))}
    assert store.done("ann") == {"pair:cat"} and store.done("bob") == set()


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"quality": ANSWERS["quality"]}, "has no answer"),
        ({**ANSWERS, "quality": Answer("a", ())}, "has no reason"),
        ({**ANSWERS, "quality": Answer("a", ("spatial",))}, "has no reason 'spatial'"),
        ({**ANSWERS, "quality": Answer("c", ("sharpness",))}, "has no answer"),
        ({**ANSWERS, "quality": Answer("tie", ("motion",))}, "has no answer"),
        ({**ANSWERS, "taste": Answer("a", ("sharpness",))}, "no question 'taste'"),
    ],
)
def test_incomplete_votes_are_refused(tmp_path, answers, words):
    store = Store(tmp_path / "votes.sqlite", SESSION)
    with pytest.raises(ValueError, match=words):
        store.add("ann", Task("pair", "cat", "a", "b"), answers, 1.0)
    assert store.votes() == []


def test_a_tie_has_no_reasons(tmp_path):
    store = Store(tmp_path / "votes.sqlite", SESSION)
    store.add("reader", Task("pair", "cat", "a", "b"), {**ANSWERS, "quality": Answer("tie", ())}, 1.0)
    assert store.votes()[0].answers["quality"] == Answer("tie", ())


def test_another_comparison_is_refused(tmp_path):
    Store(tmp_path / "votes.sqlite", SESSION).add("ann", Task("pair", "cat", "a", "b"), ANSWERS, 1.0)
    with pytest.raises(ValueError, match="another comparison.*--folder"):
        Store(tmp_path / "votes.sqlite", {**SESSION, "a": "three"})


def test_a_comparison_without_votes_is_replaced(tmp_path):
    Store(tmp_path / "votes.sqlite", SESSION)
    other = {**SESSION, "a": "three"}
    assert Store(tmp_path / "votes.sqlite", other).votes() == []
    Store(tmp_path / "votes.sqlite", other).add("ann", Task("pair", "cat", "a", "b"), ANSWERS, 1.0)
    with pytest.raises(ValueError, match="another comparison"):
        Store(tmp_path / "votes.sqlite", SESSION)


def test_a_file_that_is_no_database_is_a_sentence(tmp_path):
    (tmp_path / "votes.sqlite").write_text("no database" * 100)
    with pytest.raises(ValueError, match="file is not a database.*Choose another --folder"):
        Store(tmp_path / "votes.sqlite", SESSION)
    with pytest.raises(ValueError, match="Choose another --folder"):
        Store(tmp_path / "votes.sqlite" / "votes.sqlite", SESSION)


def test_several_raters_at_once(tmp_path):
    stores = [Store(tmp_path / "votes.sqlite", SESSION) for _ in range(4)]

    def rate(store: Store, rater: str) -> None:
        for i in range(25):
            store.add(rater, Task("pair", f"clip{i}", "a", "b"), ANSWERS, 1.0)

    threads = [threading.Thread(target=rate, args=(store, f"r{n}")) for n, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores[0].votes()) == 100


VOTER = """
import sys
from pathlib import Path
from emu_video.evaluation.juice.store import Answer, Store
from emu_video.evaluation.juice.tasks import Task
store = Store(Path(sys.argv[1]), {"a": "one", "b": "two"})
for i in range(10_000):
    store.add("ann", Task("pair", str(i), "a", "b"),
              {"quality": Answer("a", ("motion",)), "faithfulness": Answer("a", ("spatial",))}, 1.0)
    print(i, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_kill_9_loses_no_vote_that_was_confirmed(tmp_path):
    path = tmp_path / "votes.sqlite"
    process = subprocess.Popen([sys.executable, "-c", VOTER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    confirmed = [int(process.stdout.readline()) for _ in range(40)]
    process.send_signal(signal.SIGKILL)
    confirmed += [int(line) for line in process.stdout.read().split("\n")[:-1]]
    process.wait()
    names = {vote.name for vote in Store(path, SESSION).votes()}
    assert {str(i) for i in confirmed} <= names
