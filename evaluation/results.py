"""Resumable results. Cached rows are reused only while weights, graph, scorer and settings are unchanged."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..training.checkpoint import written_whole


class Results:
    """Rows of a measurement by key, in a file of JSON lines to which every new row is appended at once.

    The first line holds what the rows depend on: a digest of each of `files`, and `settings`. Rows of a file that
    differs in it are not read, and the first `add` replaces that file. A last line that was cut off is ignored.

    rows: key -> row, in the order in which they were added.
    """

    def __init__(self, path: Path, files: Iterable[Path] = (), **settings: Any):
        self.path = path
        self.made_by = json.loads(json.dumps({**settings, "sha256": {file.name: digest(file) for file in files}}))
        self.rows: dict[str, dict] = {}
        head, *lines = read_lines(path) or [{}]
        if head.get("made_by") == self.made_by:
            self.rows = {line.pop("key"): line for line in lines}
        self.can_append = bool(self.rows) and path.read_bytes().endswith(b"\n")

    def __contains__(self, key: str) -> bool:
        return key in self.rows

    def add(self, key: str, row: dict) -> None:
        """Keep a row under a new key, in memory and in the file."""
        if not self.can_append:
            self.write_whole()
        self.rows[key] = row
        with self.path.open("a", encoding="utf-8") as file:
            file.write(to_line({"key": key, **row}))

    def write_whole(self) -> None:
        """Rewrite the file, one line per row, in the order of `rows`."""
        with written_whole(self.path) as temporary:
            lines = [{"made_by": self.made_by}, *({"key": key, **row} for key, row in self.rows.items())]
            temporary.write_text("".join(map(to_line, lines)), "utf-8")
        self.can_append = True


def read_rows(path: Path) -> dict[str, dict]:
    """Return the rows of a results file by key, without a check of what made them."""
    return {line.pop("key"): line for line in read_lines(path)[1:]}


def read_lines(path: Path) -> list[dict]:
    """Return the complete lines of a file of JSON lines; [] where there is no file.

    Raises:
        ValueError: a line other than the last one is not JSON.
    """
    if not path.exists():
        return []
    *lines, _ = path.read_text("utf-8").split("\n")  # the last line is empty, or was cut off
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}. Rename or delete it to measure again.") from error


def to_line(row: dict) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(", ", ":")) + "\n"


def digest(file: Path) -> str:
    """Return the SHA-256 of a file. In Python source only statements count, not comments, docstrings and imports."""
    content = file.read_bytes()
    return hashlib.sha256(_statements(content) if file.suffix == ".py" else content).hexdigest()


def _statements(source: bytes) -> bytes:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            kept = [part for part in node.body if not isinstance(part, ast.Import | ast.ImportFrom)]
            node.body = [part for part in kept if not _is_text(part)] or [ast.Pass()]
    return ast.unparse(tree).encode()


def _is_text(statement: ast.stmt) -> bool:
    """Return whether a statement is a docstring, possibly of a constant."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
