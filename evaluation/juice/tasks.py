"""Tasks of each rater: which videos are shown, in which order, and on which side."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal, NamedTuple

Arm = Literal["a", "b"]
ARMS: tuple[Arm, Arm] = ("a", "b")


class Task(NamedTuple):
    """One comparison.

    Attributes:
        kind: "pair"; "repeat" is a pair once more with its sides swapped; "known" shows a video beside a spoiled copy.
        left, right: what is shown; for "known", "a" is the intact video.
    """

    kind: Literal["pair", "repeat", "known"]
    name: str
    left: Arm
    right: Arm

    @property
    def key(self) -> str:
        """Identify the task among those of one rater."""
        return f"{self.kind}:{self.name}"


def tasks(names: Sequence[str], rater: str, seed: int, check_every: int) -> list[Task]:
    """Return the tasks of a rater: all pairs in random order with random sides, and attention checks among them.

    Args:
        seed: of the session. Order and sides depend on it and on the rater's name alone, so that a rater can go on
            after a pause.
        check_every: one "repeat" and one "known" task follow so many pairs; 0 leaves them out.
    """
    rng = random.Random(f"{seed}/{rater}")
    order = list(names)
    rng.shuffle(order)
    sides: list[Arm] = ["b" if i % 2 else "a" for i in range(len(order))]
    rng.shuffle(sides)
    result: list[Task] = []
    for i, (name, left) in enumerate(zip(order, sides, strict=True)):
        result.append(Task("pair", name, left, _other(left)))
        if check_every and (i + 1) % check_every == 0:
            earlier = result[-check_every] if result[-check_every].kind == "pair" else result[-1]
            result.append(Task("repeat", earlier.name, earlier.right, earlier.left))
            intact: Arm = rng.choice(ARMS)
            result.append(Task("known", name, intact, _other(intact)))
    return result


def _other(arm: Arm) -> Arm:
    return "b" if arm == "a" else "a"
