"""Handling of problems with the folder: two runs at once, a full disk, no permission. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDED_GB = 12
LOW_GB = 0.5
"""Free space in GB below which the disk counts as full when a step fails."""

STALE_SECONDS = 24 * 3600


class LauncherError(Exception):
    """A step of run.py failed; the message says what failed and what to try."""


def explain(error: OSError) -> str | None:
    """Return advice for a full disk or missing permission, or None for any other error."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
        return disk_advice() or f"The disk is full: {error}. Free some space, then run the same command again."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        place = error.filename or ROOT
        return (
            f"run.py may not write {place} ({error.strerror}). It writes only inside its own folder, {ROOT}: make that "
            "folder writable, or copy it to a place where you may write."
        )
    return None


def disk_advice() -> str:
    """Return advice if the disk of this folder is nearly full, otherwise ""."""
    free = shutil.disk_usage(ROOT).free / 1e9
    if free > LOW_GB:
        return ""
    return f"Only {free:.1f} GB are free on the disk of {ROOT}. Free {NEEDED_GB} GB, then run the same command again."


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold a lock file within a `with` block. Wait while another run.py holds it. The lock ends with its process."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+b") as handle:
        if not _try_lock(handle.fileno()):
            print("Another run.py is preparing this folder: waiting for it", flush=True)
            while not _try_lock(handle.fileno()):
                time.sleep(0.5)
        yield


def _try_lock(handle: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(handle, 0, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def write_whole(file: Path, text: str) -> None:
    """Write a text file atomically."""
    part = file.with_name(file.name + ".part")
    part.write_text(text, "utf-8")
    part.replace(file)


def remove_stale(folder: Path) -> None:
    """Remove entries of a folder of temporary files that were not changed for a day, because killed runs left them."""
    now = time.time()
    for entry in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(OSError):
            if now - entry.lstat().st_mtime > STALE_SECONDS:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def keep_newest(files: Iterable[Path], count: int) -> None:
    """Remove all but the `count` files that were changed last."""
    with contextlib.suppress(OSError):  # another run.py removes the same ones, or Windows holds an open one
        for file in sorted(files, key=lambda file: file.stat().st_mtime)[:-count]:
            file.unlink()
