"""Inputs of the next step, made while the device computes this one, so that a GPU does not wait for the processor."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """A function of (step, positions). Each call also starts the one of the next step on a second thread.

    make: a pure function.
    """

    def __init__(self, make: Callable[[int, range], T]):
        self.make = make
        self._thread = ThreadPoolExecutor(1)
        self._begun: dict[tuple[int, range], Future[T]] = {}

    def __call__(self, step: int, positions: range) -> T:
        begun = self._begun.pop((step, positions), None)
        made = begun.result() if begun else self.make(step, positions)
        self._begun[step + 1, positions] = self._thread.submit(self.make, step + 1, positions)
        return made

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
