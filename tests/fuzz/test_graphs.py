"""A short slice of the fuzz of graphs and API prompts, the same in every run."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
@pytest.mark.parametrize("kind, count", [("graphs", 4), ("prompts", 20)])
def test_slice(comfyui, kind, count):
    command = [sys.executable, "-m", "emu_video.tests.fuzz", "--kind", kind, "--seed", "0", "--count", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{count} cases" in done.stdout and "0 faults" in done.stdout
