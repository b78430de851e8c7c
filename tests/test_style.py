"""Lint, format, spelling and types, as configured in pyproject.toml."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    "tool", [["ruff", "check"], ["ruff", "format", "--check"], ["codespell_lib", "."], ["basedpyright"]], ids=" ".join
)
def test_clean(tool):
    result = subprocess.run([sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_pre_commit_has_the_pinned_versions():
    pinned = " ".join(file.read_text() for file in (ROOT / "launcher").glob("requirements*.txt")).split()
    found = re.findall(r"(?:ruff|codespell)==[\d.]+", (ROOT / ".pre-commit-config.yaml").read_text())
    assert len(found) == 2 and set(found) <= set(pinned)
