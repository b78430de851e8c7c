"""Atomically written checkpoints, and the check that a checkpoint belongs to the run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path` to write to, and rename it to `path` at the end.

    The file at `path` is the old one or the new one, complete, even after kill -9, a full disk or a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_checkpoint(path: Path, **state: Any) -> None:
    with written_whole(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(path: Path, device: str | torch.device = "cpu") -> dict[str, Any] | None:
    """Return what `save_checkpoint` wrote, or None if there is no file at `path`."""
    return torch.load(path, map_location=device, weights_only=True) if path.exists() else None


def check_same_run(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ValueError if a checkpoint belongs to a run with other settings, naming each one that differs."""
    changed = [
        f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    if changed:
        raise ValueError(
            f"{path} belongs to another run: {'; '.join(changed)}. Choose another run folder to start again, or go "
            "back to the settings of that run to continue it."
        )
