"""Write Markdown tables, and update those of a README from results."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table, one line for each row."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def replace_tables(text: str, tables: dict[str, str]) -> str:
    """Return `text` with each table between its markers <!-- table: NAME --> and <!-- /table --> replaced.

    Raises:
        ValueError: the text has markers for a table that is not given.
    """

    def table(match: re.Match) -> str:
        if match[2] not in tables:
            raise ValueError(f"There is no table {match[2]!r}. Known tables: {', '.join(tables)}.")
        return f"{match[1]}\n\n{tables[match[2]]}\n\n<!-- /table -->"

    return re.sub(r"(<!-- table: (.+?) -->).*?<!-- /table -->", table, text, flags=re.DOTALL)


def stale_files(files: Iterable[Path], tables: dict[str, str], *, write: bool) -> list[Path]:
    """Return the files whose tables differ from `tables`; with `write`, also update them."""
    stale = []
    for file in files:
        text = file.read_text("utf-8")
        fresh = replace_tables(text, tables)
        if fresh != text:
            stale.append(file)
            if write:
                file.write_text(fresh, "utf-8")
    return stale
