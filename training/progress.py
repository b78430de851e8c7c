"""What a long run leaves behind: a log that shows progress, and checkpoints that are never half written."""

import csv
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


class Log:
    """Averages figures over `every` steps, prints them and appends them to a CSV file."""

    def __init__(self, path: Path, iterations: int, every: int = 25):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.iterations, self.every = path, iterations, every
        self.sums: dict[str, float] = {}
        self.count = 0
        self.started = time.time()

    def add(self, step: int, **figures: float) -> None:
        """`step` counts from 0; a line is written after every 25th and after the last."""
        for name, value in figures.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1
        if (step + 1) % self.every and step + 1 != self.iterations:
            return
        row = {"step": step + 1, "seconds": round(time.time() - self.started, 1)}
        row |= {name: round(total / self.count, 5) for name, total in self.sums.items()}
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if new:
                writer.writeheader()
            writer.writerow(row)
        self.sums, self.count = {}, 0


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to, renamed to `path` at the end: nothing is ever half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    yield temporary
    os.replace(temporary, path)


def save_checkpoint(path: Path, **state) -> None:
    with written_whole(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(path: Path) -> dict | None:
    """What `save_checkpoint` wrote, or None where there is nothing to resume."""
    return torch.load(path, weights_only=True) if path.exists() else None
