"""Inputs that a thread makes for the next step are those of the function, and its errors arrive at their step."""

from threading import Event

import pytest
from emu_video.training.ahead import Ahead


def test_each_step_is_made_once_and_the_next_one_has_begun():
    made, second = [], Event()

    def make(step: int, positions: range) -> tuple[int, range]:
        made.append((step, positions))
        if step == 1:
            second.set()
        return step, positions

    ahead = Ahead(make)
    assert ahead(0, range(2)) == (0, range(2))
    assert second.wait(10)
    assert [ahead(step, range(2)) for step in (1, 2)] == [(1, range(2)), (2, range(2))]
    assert ahead(2, range(2, 4)) == (2, range(2, 4))  # another part of a batch
    ahead.close()
    assert [made.count((step, range(2))) for step in range(3)] == [1, 1, 1]


def test_an_error_is_raised_at_the_step_that_has_it():
    def make(step: int, positions: range) -> int:
        if step == 1:
            raise ValueError("a damaged shard")
        return step

    ahead = Ahead(make)
    assert ahead(0, range(1)) == 0
    with pytest.raises(ValueError, match="a damaged shard"):
        ahead(1, range(1))
    ahead.close()
