"""Lint, format, spelling and types, as configured in pyproject.toml."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BEFORE_ENCODING = {"read_text": 0, "write_text": 1}  # number of arguments


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


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Yield (name of the file, syntax tree) of all source files but those of the tests."""
    for file in sorted(ROOT.glob("*/**/*.py")):
        name = file.relative_to(ROOT)
        if name.parts[0] != "tests" and not any(part.startswith(".") for part in name.parts):
            yield str(name), ast.parse(file.read_text("utf-8"))


def test_no_text_without_use():
    """A text that lacks its parentheses falls into two statements, and its end is lost."""
    found = []
    for name, tree in sources():
        for parent in ast.walk(tree):
            body = getattr(parent, "body", [])
            for before, each in itertools.pairwise(body if isinstance(body, list) else []):
                if isinstance(each, ast.Expr) and _is_text(each.value) and not _documents(before, parent):
                    found.append(f"{name}:{each.lineno}")
    assert not found


def test_text_files_have_an_encoding():
    """Without one, Windows uses the encoding of its language."""
    found = [
        f"{name}:{call.lineno}"
        for name, tree in sources()
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and len(call.args) + len(call.keywords) <= BEFORE_ENCODING.get(call.func.attr, -1)
    ]
    assert not found


def _is_text(value: ast.expr) -> bool:
    return isinstance(value, ast.JoinedStr) or (isinstance(value, ast.Constant) and isinstance(value.value, str))


def _documents(before: ast.stmt, parent: ast.AST) -> bool:
    """Return whether a text after `before` can be its documentation: of a constant or field, not of a local name."""
    return isinstance(before, ast.Assign | ast.AnnAssign) and isinstance(parent, ast.Module | ast.ClassDef)
