"""Figures of a run: averages over some steps as CSV, TensorBoard and a picture of the curves."""

from __future__ import annotations

import csv
import io
import logging
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .checkpoint import written_whole

Figure = float | tuple[float, float]
"""A value, or a sum of values and their count (for a rate, their time)."""
Sums = Mapping[str, tuple[float, float]]
Row = dict[str, float]


class Log:
    """Average figures over `every` steps and write the rows to `path` (CSV), which is always complete.

    Args:
        path: the CSV file. Rows of an earlier run after the step resumed from are removed.
        first: the step resumed from, 0 for a new run.
        tensorboard: a folder for TensorBoard's event files, or None.
        gather: joins the figures of several processes, see `Processes.gather`.
        echo: whether each row is printed.
        writes: False in all processes but the first.
    """

    def __init__(
        self,
        path: Path,
        iterations: int,
        every: int = 25,
        *,
        first: int = 0,
        tensorboard: Path | None = None,
        gather: Callable[[Any], list[Any]] = lambda value: [value],
        echo: bool = True,
        writes: bool = True,
    ):
        self.path, self.iterations, self.every = path, iterations, every
        self.echo, self.writes = echo, writes
        self.gather = gather
        self.rows: list[Row] = [row for row in read_rows(path) if row["step"] <= first] if first else []
        self.sums: Sums = {}
        self.started = time.time() - (self.rows[-1]["seconds"] if self.rows else 0.0)
        self.writer = _tensorboard(tensorboard) if tensorboard else None

    def add(self, step: int, **figures: Figure) -> None:
        """Add the figures of one step, counted from 0; a row is written every `every` steps and at the last one."""
        self.sums = joined([self.sums, *({n: f if isinstance(f, tuple) else (f, 1)} for n, f in figures.items())])
        if (step + 1) % self.every and step + 1 != self.iterations:
            return
        means = {name: total / count for name, (total, count) in joined(self.gather(self.sums)).items() if count}
        self.sums = {}
        if not self.writes:
            return
        row = {"step": step + 1, "seconds": round(time.time() - self.started, 1)}
        row |= {name: float(f"{mean:.5g}") for name, mean in means.items()}
        self.rows.append(row)
        with unless_open(self.path):
            write_rows(self.path, self.rows)
        if self.echo:
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        if self.writer:
            for name, mean in means.items():
                self.writer.add_scalar(name, mean, step + 1)
            self.writer.flush()

    @property
    def last(self) -> Row:
        return self.rows[-1] if self.rows else {}


def joined(parts: Iterable[Sums]) -> Sums:
    """Return the sums and numbers of several parts, added up by name."""
    result: dict[str, tuple[float, float]] = {}
    for part in parts:
        for name, (total, count) in part.items():
            before = result.get(name, (0.0, 0))
            result[name] = (before[0] + total, before[1] + count)
    return result


def memory() -> float:
    """Return the peak memory of this process so far, in GiB: GPU memory, or main memory without a GPU."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**30
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


@contextmanager
def unless_open(path: Path) -> Iterator[None]:
    """Continue if `path` cannot be replaced. Windows locks a log that is open in Excel."""
    try:
        yield
    except PermissionError:
        logging.warning("Emu Video: %s is open in another program or read-only; the next row tries again.", path)


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write the rows as CSV; a figure that a row lacks is empty."""
    columns = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with written_whole(path) as temporary:
        temporary.write_text(text.getvalue(), "utf-8")


def read_rows(path: Path) -> list[Row]:
    """Return the rows that `write_rows` wrote. Without a file, or with a damaged one, return an empty list."""
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    except (ValueError, TypeError, csv.Error):
        logging.warning("Emu Video: the log %s cannot be read, so a new log starts.", path)
        return []
    return [{name: int(value) if name == "step" else value for name, value in row.items()} for row in rows]


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError(
            'The recipe says "tensorboard = true", but the package tensorboard is not installed: '
            "run pip install tensorboard, or remove this line (NAME.csv and NAME.png are written anyway)."
        ) from None
    return SummaryWriter(str(folder))


COLOURS = ((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75))
MARGIN = 48


def curves(rows: list[Row], names: tuple[str, ...], size: tuple[int, int] = (480, 270)) -> np.ndarray:
    """Draw figures against steps: uint8 RGB [height, width, 3]. size: (width, height) in pixels.

    Figures that no row has are left out. The vertical axis ends at the 98th percentile, so that a spike does not
    flatten the curves.
    """
    import cv2

    width, height = size
    picture = np.full((height, width, 3), 255, np.uint8)
    lines = {n: [(r["step"], r[n]) for r in rows if math.isfinite(r.get(n, math.nan))] for n in names}
    lines = {name: points for name, points in lines.items() if points}
    if not lines:
        return picture
    steps = [step for points in lines.values() for step, _ in points]
    values = [value for points in lines.values() for _, value in points]
    low, high = min(0.0, *values), float(np.percentile(values, 98)) * 1.05
    high = high if high > low else low + 1.0
    first, last = min(steps), max(*steps, min(steps) + 1)

    def place(step: float, value: float) -> tuple[int, int]:
        x = MARGIN + (step - first) / (last - first) * (width - MARGIN - 12)
        y = height - 28 - (min(value, high) - low) / (high - low) * (height - 48)
        return round(x), round(y)

    def write(text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
        cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.38, colour, 1, cv2.LINE_AA)

    for part in range(5):
        value = low + (high - low) * part / 4
        cv2.line(picture, place(first, value), place(last, value), (225, 225, 225), 1)
        write(f"{value:.3g}", (4, place(first, value)[1] + 4), (90, 90, 90))
    write(f"step {first:.0f}", (MARGIN, height - 8), (90, 90, 90))
    write(f"{last:.0f}", (width - 60, height - 8), (90, 90, 90))
    for number, (name, points) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        cv2.polylines(picture, [np.array([place(*p) for p in points], np.int32)], False, colour, 1, cv2.LINE_AA)
        write(f"{name} {points[-1][1]:.4g}", (width - 190, 18 + 15 * number), colour)
    return picture


def save_picture(path: Path, picture: np.ndarray) -> None:
    """Write uint8 RGB [height, width, 3] as PNG."""
    import cv2

    encoded = cv2.imencode(".png", picture[..., ::-1])[1]
    with written_whole(path) as temporary:
        temporary.write_bytes(encoded.tobytes())
