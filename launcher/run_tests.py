"""`run.py test`: pytest in the environment, with a ComfyUI."""

from __future__ import annotations

import os
import subprocess
import sys

from . import comfyui
from .environment import ROOT

HELP = """usage: run.py test [FILE ...] [pytest arguments]

Run the tests; without arguments all of them, in parallel. `run.py test -- --help` lists pytest's own arguments."""
BY_FILE = ["--dist", "loadfile", "--no-loadscope-reorder"]  # browser tests, the longest, begin
PROCESSES = 4  # at most: each holds a ComfyUI and small models, 1 to 3 GB


def parse(argv: list[str]) -> list[str]:
    """Return the arguments for pytest; print help and exit if it is asked for."""
    if argv and argv[0] in ("-h", "--help"):
        print(HELP)
        sys.exit(0)
    return argv[1:] if argv and argv[0] == "--" else argv


def main(argv: list[str]) -> int:
    """Run pytest in the repository; return its exit code."""
    arguments = parse(argv) or ["-n", str(min(os.cpu_count() or 1, PROCESSES)), *BY_FILE]
    # Several processes with several threads each wait for one another most of the time.
    env = {"OMP_NUM_THREADS": "1"} | comfyui.variables(comfyui.locate())
    return subprocess.call([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, env=env)
