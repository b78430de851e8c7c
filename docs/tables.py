"""Write the tables of README.md, docs and pocket/README.md: results in pocket/evaluate/measured, and the metrics.

python -m emu_video.docs.tables
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from ..evaluation.results import read_lines, read_rows
from ..evaluation.score import metrics_table
from ..evaluation.tables import stale_files
from ..pocket.ablations import colours, report
from ..pocket.ablations.measured import Rows, complete_comparisons
from ..pocket.ablations.recipes import Comparison, Scale
from ..pocket.evaluate import (
    extension,
    first_last,
    interpolation_tables,
    law_tables,
    second_pass,
    super_resolution,
    text_to_video,
)
from ..pocket.evaluate.reasons import reasons_table

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "pocket" / "evaluate" / "measured"
ABLATIONS = MEASURED / "ablations.jsonl"
README_FILES = ROOT / "README.md", ROOT / "pocket" / "README.md", *sorted((ROOT / "docs").glob("*.md"))


def measured_tables() -> dict[str, str]:
    """Return all tables by name."""
    rows = {name: read_rows(MEASURED / f"{name}.jsonl") for name in ("text_to_video", "extension")}
    lists = ("interpolation", "first_last", "second_pass", "laws")
    of_clips = {name: list(read_rows(MEASURED / f"{name}.jsonl").values()) for name in lists}
    return {
        "metrics": metrics_table(),
        "reasons": reasons_table(),
        "text_to_video": text_to_video.table(rows["text_to_video"]),
        "extension": extension.table(list(rows["extension"].values())),
        **interpolation_tables.tables(of_clips["interpolation"]),
        **first_last.tables(of_clips["first_last"]),
        **super_resolution.tables(read_rows(MEASURED / "super_resolution.jsonl")),
        "second_pass": second_pass.table(of_clips["second_pass"]),
        **law_tables.tables(of_clips["laws"]),
        **report.tables(*ablations()),
    }


@cache
def ablations() -> tuple[Rows, Sequence[Comparison], Mapping[str, colours.Kept], Scale]:
    """Return the arguments of `report.tables` for the committed rows."""
    head, rows = read_lines(ABLATIONS)[0], read_rows(ABLATIONS)
    scale = Scale(**head["made_by"]["scale"])
    comparisons = complete_comparisons(rows, scale)
    return rows, comparisons, report.kept_in(rows, comparisons, scale), scale


if __name__ == "__main__":
    colours.plot(ablations()[2], ROOT / "docs" / f"ablations_{report.SURVIVAL}")
    for file in stale_files(README_FILES, measured_tables(), write=True):
        print(f"{file} brought up to date")
