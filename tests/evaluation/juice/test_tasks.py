"""Order and sides: random, balanced, the same after a pause, and with attention checks."""

from __future__ import annotations

from collections import Counter

from emu_video.evaluation.juice.tasks import tasks

NAMES = [f"clip{i:02d}" for i in range(20)]


def test_every_pair_once_with_each_arm_on_the_left_for_half_of_them():
    pairs = [task for task in tasks(NAMES, "ann", 0, 5) if task.kind == "pair"]
    assert sorted(task.name for task in pairs) == NAMES
    assert Counter(task.left for task in pairs) == {"a": 10, "b": 10}
    assert all({task.left, task.right} == {"a", "b"} for task in pairs)


def test_the_same_rater_gets_the_same_tasks_and_another_one_others():
    assert tasks(NAMES, "ann", 0, 5) == tasks(NAMES, "ann", 0, 5)
    assert tasks(NAMES, "ann", 0, 5) != tasks(NAMES, "bob", 0, 5)
    assert tasks(NAMES, "ann", 0, 5) != tasks(NAMES, "ann", 1, 5)


def test_attention_checks():
    found = tasks(NAMES, "ann", 0, 5)
    assert Counter(task.kind for task in found) == {"pair": 20, "repeat": 4, "known": 4}
    assert len({task.key for task in found}) == len(found)
    first = {task.name: task for task in found if task.kind == "pair"}
    for task in found:
        if task.kind == "repeat":
            assert task.left == first[task.name].right
            assert found.index(first[task.name]) < found.index(task)
    assert {task.kind for task in tasks(NAMES, "ann", 0, 0)} == {"pair"}
