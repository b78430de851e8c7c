"""`run.py test`: pytest in the environment, with a ComfyUI."""

from __future__ import annotations

import subprocess
import sys

from . import comfyui
from .environment import ROOT, child_environment

HELP = """usage: run.py test [FILE ...] [pytest arguments]

Run the tests. `run.py test -- --help` lists pytest's own arguments."""


def parse(argv: list[str]) -> list[str]:
    """Return the arguments for pytest; print help and exit if it is asked for."""
    if argv and argv[0] in ("-h", "--help"):
        print(HELP)
        sys.exit(0)
    return argv[1:] if argv and argv[0] == "--" else argv


def main(argv: list[str]) -> int:
    """Run pytest in the repository; return its exit code."""
    arguments = parse(argv)
    env = child_environment() | {"COMFYUI_PATH": str(comfyui.locate())}
    return subprocess.call([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, env=env)
