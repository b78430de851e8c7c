"""Tables of scores of interpolated frames."""

from collections.abc import Callable

import numpy as np

from ...evaluation.intervals import finite, mean_text
from ...evaluation.tables import markdown
from .interpolation_score import METHODS


def groups(rows: list[dict]) -> dict[str, list[dict]]:
    """Return rows by motion, and the rows of all moving clips. In still clips repeating a frame is perfect."""
    kinds = {kind: [r for r in rows if r["kind"] == kind] for kind in dict.fromkeys(r["kind"] for r in rows)}
    moving = [r for r in rows if r["kind"] != "still"]
    together = {
        "all that move": moving,
        "of these, seen": [r for r in moving if not r["unseen"]],
        "of these, held-out": [r for r in moving if r["unseen"]],
    }
    return kinds | {name: members for name, members in together.items() if members}


def table(rows: list[dict], title: str, columns: dict[str, Callable[[dict], float | None]]) -> str:
    """Return a table of means with their intervals, one line for each group of rows."""
    lines = [
        (name, str(len(members)), *(mean_text(map(value, members)) for value in columns.values()))
        for name, members in groups(rows).items()
    ]
    return markdown((title, "clips", *columns), lines)


def tables(rows: list[dict]) -> dict[str, str]:
    """Return tables by name: one for each figure, a short one of the others, and one of frames that only the model
    makes."""

    def by_method(figure: str) -> dict[str, Callable[[dict], float | None]]:
        return {method: lambda row, m=method: row["methods"][m][figure] for method in METHODS}

    titles = {
        "centroid": "centroid error of the new frames, pixels",
        "psnr": "PSNR of the new frames, dB",
        "present": "share of new frames with the object",
        "flicker": "flicker, of 255",
    }
    own = {
        "given frames as sampled, PSNR": lambda row: row["given"],
        "outer frames, centroid error": lambda row: row["outer"]["centroid"],
        "outer frames, PSNR": lambda row: row["outer"]["psnr"],
    }
    parts = {f"interpolation {figure}": table(rows, title, by_method(figure)) for figure, title in titles.items()}
    return parts | {"interpolation summary": summary(rows), "interpolation model": table(rows, "the model alone", own)}


def summary(rows: list[dict]) -> str:
    """Return the means of presence and flicker by method, and the median distance from the ideal shape."""
    moving = groups(rows)["all that move"]
    crossing = [row for row in rows if row["kind"] == "crossing"]

    def line(name: str, members: list[dict], figure: str, style: str, middle=np.mean) -> list[str]:
        cells = (finite(row["methods"][method].get(figure) for row in members) for method in METHODS)
        return [name, *(format(middle(values), style) if len(values) else "none" for values in cells)]

    lines = [line("object in the new frames", moving, "present", ".1%")]
    if crossing:
        lines.append(line("the same, crossing", crossing, "present", ".1%"))
    lines.append(line("flicker, of 255", moving, "flicker", ".2f"))
    if any("roundness" in row["methods"][METHODS[0]] for row in moving):
        lines.append(line("distance from the ideal shape, median", moving, "roundness", ".1%", np.median))
    return markdown(("all that move", *METHODS), lines)
