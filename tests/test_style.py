"""Lint, format, spelling and types, as configured in pyproject.toml."""

from __future__ import annotations

import ast
import itertools
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


def test_no_text_without_use():
    """A text that lacks its parentheses falls into two statements, and its end is lost."""
    found = []
    for file in sorted(ROOT.glob("*/**/*.py")):
        if any(part.startswith(".") for part in file.relative_to(ROOT).parts):
            continue
        for parent in ast.walk(ast.parse(file.read_text())):
            body = getattr(parent, "body", [])
            for before, each in itertools.pairwise(body if isinstance(body, list) else []):
                if isinstance(each, ast.Expr) and _is_text(each.value) and not _documents(before, parent):
                    found.append(f"{file.relative_to(ROOT)}:{each.lineno}")
    assert not found


def _is_text(value: ast.expr) -> bool:
    return isinstance(value, ast.JoinedStr) or (isinstance(value, ast.Constant) and isinstance(value.value, str))


def _documents(before: ast.stmt, parent: ast.AST) -> bool:
    """Return whether a text after `before` can be its documentation: of a constant or field, not of a local name."""
    return isinstance(before, ast.Assign | ast.AnnAssign) and isinstance(parent, ast.Module | ast.ClassDef)
