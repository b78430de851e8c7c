"""Tables and plots of the laws that laws.py measures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...evaluation.intervals import finite, half_width, mean_text, share_interval, share_text
from ...evaluation.tables import markdown
from ..world.background import EVEN

FEWEST = 4  # clips of an arm below which a plot has no intervals
DOCS = Path(__file__).parents[2] / "docs"
Figure = Callable[[dict], float | None]


class Share(NamedTuple):
    """A figure that is right or wrong; its mean is a share in percent."""

    flag: Callable[[dict], bool]

    def __call__(self, row: dict) -> float:
        return 100.0 * self.flag(row)


def share(name: str) -> Share:
    return Share(lambda row: row[name])


FIGURES: dict[str, dict[str, Figure]] = {
    "guidance": {
        "motion score": lambda row: row["score"],
        "the same, of the prompt's mean": lambda row: row["relative"],
        "motion right, %": share("motion"),
        "PSNR of frame 0, dB": lambda row: row["psnr"],
        "drift, of 255": lambda row: row["drift"],
    },
    "steps": {
        "distance from the ideal shape, %": lambda row: row["roundness"] and 100 * row["roundness"],
        "PSNR of frame 0, dB": lambda row: row["psnr"],
        "drift, of 255": lambda row: row["drift"],
        "motion right, %": share("motion"),
    },
    "schedule": {
        "light right, %": share("light"),
        "light right without blotches, %": Share(lambda row: row["light"] and row["spread"] <= EVEN),
        "spread of the background, of 255": lambda row: row["spread"],
        "error of frame 0's brightness, of 255": lambda row: abs(row["levels"][0] - row["start"]),
        "brightness, last frame over first, in octaves": lambda row: octaves(row["levels"]),
        "PSNR of frame 0, dB": lambda row: row["psnr"],
    },
}
"""Law -> name of a column -> the figure of a row."""


def octaves(levels: list[float]) -> float:
    """Return the size of the change of brightness from first to last frame: 1 is half or twice the brightness."""
    return abs(float(np.log2(max(levels[-1], 1.0) / max(levels[0], 1.0))))


def of_law(rows: Iterable[dict], law: str, **point) -> list[dict]:
    """Return the rows of a law at one of its points."""
    return [row for row in rows if row["law"] == law and all(row[key] == value for key, value in point.items())]


def with_relative_motion(rows: list[dict]) -> list[dict]:
    """Return the rows with their motion score over the mean of their prompt, because prompts differ more than arms."""
    means = {
        number: np.mean([row["score"] for row in rows if row["number"] == number]) for number in points(rows, "number")
    }
    return [row | {"relative": row["score"] / max(float(means[row["number"]]), 1e-6)} for row in rows]


def _cell(figure: Figure, rows: list[dict]) -> str:
    if isinstance(figure, Share):
        return share_text([figure.flag(row) for row in rows]).replace(f", n = {len(rows)}", "")
    return mean_text(map(figure, rows))


def points(rows: list[dict], key: str) -> list:
    return list(dict.fromkeys(row[key] for row in rows))


def tables(rows: list[dict]) -> dict[str, str]:
    """Return a table for each law that was measured: means with 95 % intervals."""
    keys = {"guidance": ("text", "image"), "steps": ("steps",), "schedule": ("schedule",)}
    made = {}
    for law, names in keys.items():
        members = with_relative_motion(of_law(rows, law))
        settings = list(dict.fromkeys(tuple(row[name] for name in names) for row in members))
        lines = []
        for setting in settings:
            group = of_law(members, law, **dict(zip(names, setting, strict=True)))
            cells = [_cell(figure, group) for figure in FIGURES[law].values()]
            lines.append([*(f"{v:g}" if isinstance(v, int | float) else v for v in setting), str(len(group)), *cells])
        if lines:
            made[f"laws {law}"] = markdown((*names, "clips", *FIGURES[law]), lines)
    return made


def write_plots(rows: list[dict], folder: Path = DOCS) -> list[Path]:
    """Write laws_NAME.png of each law that was measured; return the files."""
    plots = {"guidance": plot_guidance, "steps": plot_steps, "schedule": plot_schedule}
    written = []
    for law, plot in plots.items():
        if members := of_law(rows, law):
            written.append(folder / f"laws_{law}.png")
            plot(with_relative_motion(members), written[-1])
    return written


def plot_guidance(rows: list[dict], path: Path) -> None:
    """Draw each figure against text guidance, one line for each image guidance."""
    figure, panels = _panels(FIGURES["guidance"])
    for panel, value in panels:
        for image in sorted(points(rows, "image")):
            line = [(text, of_law(rows, "guidance", text=text, image=image)) for text in sorted(points(rows, "text"))]
            _line(panel, line, value, f"image guidance {image:g}")
        panel.set_xscale("log", base=2)
        panel.set_xticks(sorted(points(rows, "text")), labels=[f"{text:g}" for text in sorted(points(rows, "text"))])
        panel.set_xlabel("text guidance")
    panels[0][0].legend(frameon=False, fontsize=9)
    _save(figure, path)


def plot_steps(rows: list[dict], path: Path) -> None:
    """Draw each figure against the number of steps."""
    figure, panels = _panels(FIGURES["steps"])
    steps = sorted(points(rows, "steps"))
    for panel, value in panels:
        _line(panel, [(count, of_law(rows, "steps", steps=count)) for count in steps], value, "")
        panel.set_xscale("log")
        panel.set_xticks(steps, labels=map(str, steps))
        panel.minorticks_off()
        panel.set_xlabel("steps")
    _save(figure, path)


def plot_schedule(rows: list[dict], path: Path) -> None:
    """Draw the brightness of every frame relative to the given first frame, for both directions."""
    names = ("getting darker", "getting brighter")
    figure, panels = _panels(dict.fromkeys(names, lambda row: None))
    for panel, direction in zip((panel for panel, _ in panels), names, strict=True):
        members = [row for row in rows if row["asked"] == direction]
        for schedule in points(rows, "schedule"):
            levels = [
                [level / row["start"] for level in row["levels"]]
                for row in of_law(members, "schedule", schedule=schedule)
            ]
            if not levels:
                continue
            values = np.array(levels)
            errors = [half_width(each) for each in values.T] if len(values) >= FEWEST else None
            panel.errorbar(range(values.shape[1]), values.mean(0), errors, marker="o", capsize=3, label=schedule)
        panel.set_xlabel("frame")
        panel.set_ylabel("brightness / that of the given frame")
        panel.axhline(1.0, color="0.8", zorder=0)
    panels[0][0].legend(frameon=False, fontsize=9)
    _save(figure, path)


def _panels(figures: dict[str, Figure]):
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(3.4 * len(figures) if len(figures) > 2 else 9.0, 3.6), layout="constrained")
    axes = drawing.subplots(1, len(figures))
    for axis, name in zip(axes, figures, strict=True):
        axis.set_title(name, fontsize=11)
        axis.spines[["top", "right"]].set_visible(False)
    return drawing, list(zip(axes, figures.values(), strict=True))


def _line(panel, groups: list[tuple[float, list[dict]]], value: Figure, label: str) -> None:
    """Draw the means of groups of rows with their 95 % intervals, which need some clips."""
    found = [(x, finite(map(value, members))) for x, members in groups]
    found = [(x, values) for x, values in found if len(values)]
    means = np.array([values.mean() for _, values in found])
    ends = np.array([_interval(values, isinstance(value, Share)) for _, values in found]).T
    errors = np.abs(ends - means) if all(len(values) >= FEWEST for _, values in found) else None
    panel.errorbar([x for x, _ in found], means, errors, marker="o", capsize=3, label=label)
    if isinstance(value, Share):
        panel.set_ylim(-3, 103)


def _interval(values: np.ndarray, is_share: bool) -> tuple[float, float]:
    if is_share:
        low, high = share_interval(round(values.sum() / 100), len(values))
        return 100 * low, 100 * high
    width = half_width(values) if len(values) > 1 else 0.0
    return values.mean() - width, values.mean() + width


def _save(figure, path: Path) -> None:
    figure.savefig(path, dpi=110)
