"""Run a program until standard input ends: `python supervise.py TEMP PROGRAM ...`, then remove the folder TEMP.

The launcher holds the other end of that pipe, so the program and its children also end when the launcher is killed.
Standard library only; runs as a script, without the pack.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

PATIENCE_SECONDS = 10
"""Time for a program to end after each signal, in seconds."""


def main(temp: str, *command: str) -> int:
    """Return the program's exit code, or 0 after it was stopped because standard input ended."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        with contextlib.suppress(AttributeError, ValueError):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    is_windows = os.name == "nt"
    flags = {} if is_windows else {"start_new_session": True, "preexec_fn": _default_signals}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **flags)
    ended = threading.Event()
    threading.Thread(target=_wait_for_input, args=(ended,), daemon=True).start()
    while process.poll() is None and not ended.is_set():
        ended.wait(0.2)
    code = process.poll()
    stop(process)
    shutil.rmtree(temp, ignore_errors=True)
    return 0 if code is None else code


def _default_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _wait_for_input(ended: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 1024):
            pass
    ended.set()


def stop(process: subprocess.Popen) -> None:
    """End the process and its process group: first with signals that it can handle, then by force."""
    if os.name == "nt":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True)
        return
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if not _is_group_alive(process):
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while _is_group_alive(process) and time.monotonic() < deadline:
            time.sleep(0.1)


def _is_group_alive(process: subprocess.Popen) -> bool:
    process.poll()  # so that an ended process does not stay as a zombie of its group
    try:
        os.killpg(process.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
