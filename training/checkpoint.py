"""Atomically written checkpoints, full disks, and the check that a checkpoint belongs to the run."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from ..temporal_layers import files


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a name to write to, see `files.written_whole`. Missing folders are made.

    Raises DiskFull if there is no room for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with disk_full_named(path.parent), files.written_whole(path) as unfinished:
        yield unfinished


def remove_unfinished(folder: Path, name: str) -> None:
    """Remove what a killed process left unfinished, for files whose names start with `name`."""
    for unfinished in folder.glob(f".{escape(name)}*.tmp"):
        shutil.rmtree(unfinished, ignore_errors=True)


class DiskFull(RuntimeError):
    """There is no room on a disk."""


FULL = 2**16  # bytes; PyTorch and safetensors hide the error number, so a disk with less room counts as full


@contextmanager
def disk_full_named(folder: Path) -> Iterator[None]:
    """Raise DiskFull with one sentence instead of any error of a full disk."""
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:
        is_full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if is_full or f"os error {errno.ENOSPC}" in str(error) or shutil.disk_usage(folder).free < FULL:
            raise DiskFull(
                f"The disk of {folder} is full. Complete files are kept: free some space and run this again to "
                "continue."
            ) from error
        raise


def save_checkpoint(path: Path, **state: Any) -> None:
    with written_whole(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(path: Path, device: str | torch.device = "cpu") -> dict[str, Any] | None:
    """Return what `save_checkpoint` wrote, or None if there is no file at `path`.

    Raises ValueError for a damaged file.
    """
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, LookupError, UnpicklingError) as error:
        raise ValueError(
            f"{path} is damaged ({type(error).__name__}): delete it to begin this run again, or copy it back from a "
            "backup."
        ) from error


def check_same_run(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ValueError if a checkpoint belongs to a run with other settings, naming each one that differs."""
    changed = [
        f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    if changed:
        raise ValueError(
            f"{path} belongs to another run: {'; '.join(changed)}. Choose another name or run folder to start "
            "again, or go back to the settings of that run to continue it."
        )
