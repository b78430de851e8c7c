"""A short slice of the fuzz of files, the same in every run."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_damaged_files_are_refused_by_a_sentence():
    command = [sys.executable, "-m", "emu_video.tests.fuzz", "--kind", "files", "--seed", "0", "--count", "25"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "25 cases" in done.stdout and "0 faults" in done.stdout
