"""Report as one static HTML page and as JSON: videos side by side, a table of all scores, intervals."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .intervals import FEW_PROMPTS, bootstrap
from .metrics.embeddings import frechet_distance, polynomial_mmd
from .score import METRICS
from .sweep import Clip

TEMPLATE = Path(__file__).with_name("report.html")
PLOT_WIDTH, PLOT_ROW = 420, 22


def summarise(matched: Sequence[Sequence[Clip]], scores: Mapping[tuple[str, str], dict]) -> dict[str, Any]:
    """Return metric -> arm -> {mean, low, high, difference}, with 95 % intervals over prompts and seeds.

    difference: {mean, low, high} of the paired differences to the first arm, and the number of "prompts" that have
    both values. Metrics that no video has are left out.
    """
    arms = [clip.arm for clip in matched[0]]
    summary: dict[str, Any] = {}
    for metric in METRICS:
        grids = {arm: _grid(matched, i, scores, metric) for i, arm in enumerate(arms)}
        if all(np.isnan(grid).all() for grid in grids.values()):
            continue
        summary[metric] = {}
        for arm, grid in grids.items():
            entry = _interval(grid)
            if arm != arms[0]:
                differences = grid - grids[arms[0]]
                prompts = int((~np.isnan(differences)).any(1).sum())
                entry["difference"] = _interval(differences) | {"prompts": prompts}
            summary[metric][arm] = entry
    return summary


def set_distances(matched: Sequence[Sequence[Clip]], scores: Mapping[tuple[str, str], dict]) -> dict[str, Any]:
    """Return arm -> {frechet_distance, polynomial_mmd} to the first arm, if videos were embedded."""
    embedded = {
        clips[i].arm: [e for row in matched if (e := scores.get((row[i].arm, row[i].name), {}).get("embedding"))]
        for clips in matched[:1]
        for i in range(len(clips))
    }
    sets = {arm: np.array(values) for arm, values in embedded.items() if len(values) > 1}
    first = matched[0][0].arm
    if first not in sets:
        return {}
    return {
        arm: {
            "frechet_distance": frechet_distance(sets[first], values),
            "polynomial_mmd": polynomial_mmd(sets[first], values),
        }
        for arm, values in sets.items()
        if arm != first
    }


def _grid(
    matched: Sequence[Sequence[Clip]], number: int, scores: Mapping[tuple[str, str], dict], metric: str
) -> np.ndarray:
    """Return values [prompts, seeds] of one arm, NaN where there is none.

    Prompt and seed are those of the first arm, because folders with other files may group their names differently. If
    no seed occurs with two prompts, videos in one column have nothing in common; then each row begins at the first one.
    """
    groups: dict[str, list[int]] = {}
    for row in matched:
        groups.setdefault(row[0].group, []).append(row[0].seed)
    columns = sorted({row[0].seed for row in matched})
    is_shared = len(columns) < len(matched)
    grid = np.full((len(groups), len(columns) if is_shared else max(map(len, groups.values()))), math.nan)
    for row in matched:
        value = scores.get((row[number].arm, row[number].name), {}).get("metrics", {}).get(metric)
        group, seed = row[0].group, row[0].seed
        column = columns.index(seed) if is_shared else sorted(groups[group]).index(seed)
        grid[sorted(groups).index(group), column] = math.nan if value is None else value
    return grid


def _interval(grid: np.ndarray) -> dict[str, Any]:
    mean, low, high = (None if math.isnan(value) else float(f"{value:.6g}") for value in bootstrap(grid))
    return {"mean": mean, "low": low, "high": high}


def write_report(
    folder: Path,
    matched: Sequence[Sequence[Clip]],
    scores: Mapping[tuple[str, str], dict],
    *,
    arms: Mapping[str, str],
    notes: Sequence[str],
) -> Path:
    """Write report.html and report.json into `folder`.

    scores: see `score_all`. arms: name -> description. notes: sentences about missing or changed parts.
    """
    shown = [row for row in matched if all((clip.arm, clip.name) in scores for clip in row)]
    if not shown:
        raise ValueError("No video could be scored, so there is nothing to report.")
    summary = summarise(shown, scores)
    prompts = len({row[0].group for row in shown})
    if prompts < FEW_PROMPTS:
        few = f"Only {prompts} prompts: bootstrap intervals are too narrow below {FEW_PROMPTS}. Add prompts, not seeds."
        notes = [*notes, few]
    videos = [
        {
            "name": row[0].name,
            "prompt": row[0].prompt,
            "arms": {c.arm: _public(scores[c.arm, c.name]) for c in row},
        }
        for row in shown
    ]
    content = {
        "arms": dict(arms),
        "order": list(arms),  # JavaScript sorts the keys of an object if they are numbers
        "notes": list(notes),
        "metrics": {name: METRICS[name]._asdict() | {"measure": None} for name in summary},
        "summary": summary,
        "distances": set_distances(shown, scores),
        "videos": videos,
    }
    (folder / "report.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    page = TEMPLATE.read_text("utf-8")
    parts = {
        "DATA": json.dumps(content, ensure_ascii=False).replace("<", "\\u003c"),
        "NOTES": "".join(f"<li>{html.escape(note)}</li>" for note in notes),
        "ARMS": "".join(f"<li><b>{html.escape(a)}</b> {html.escape(about)}</li>" for a, about in arms.items()),
        "SUMMARY": _summary_table(summary, list(arms), len(shown)),
    }
    for name, part in parts.items():
        page = page.replace(f"<!--{name}-->", part)
    path = folder / "report.html"
    path.write_text(page, "utf-8")
    return path


def _public(score: dict) -> dict:
    return {name: value for name, value in score.items() if name != "embedding"}


def _summary_table(summary: dict[str, Any], arms: Sequence[str], count: int) -> str:
    header = "".join(f"<th>{html.escape(arm)}</th>" for arm in arms)
    rows = "".join(_summary_row(name, entries, arms) for name, entries in summary.items())
    caption = f"{count} videos of each; mean, 95 % interval, and difference to {html.escape(arms[0])}"
    head = f"<thead><tr><th>metric</th>{header}<th>mean and interval</th></tr></thead>"
    return f"<table><caption>{caption}</caption>{head}<tbody>{rows}</tbody></table>"


def _summary_row(name: str, entries: dict[str, Any], arms: Sequence[str]) -> str:
    metric = METRICS[name]
    better = f", {metric.better} is better" if metric.better else ""
    title = html.escape(f"Fooled by {metric.fooled_by}.", quote=True)
    cells = "".join(f"<td>{_cell(entries[arm], metric.better)}</td>" for arm in arms)
    plot = svg_intervals([entries[arm] for arm in arms])
    return f'<tr><th title="{title}">{html.escape(metric.title)}<small>{better}</small></th>{cells}<td>{plot}</td></tr>'


def _cell(entry: dict[str, Any], better: str) -> str:
    if entry["mean"] is None:
        return "not measured"
    text = f"{entry['mean']:.4g}"
    if entry["low"] is not None:
        text += f" <small>[{entry['low']:.4g}, {entry['high']:.4g}]</small>"
    difference = entry.get("difference")
    if difference and difference["low"] is not None:
        interval = f"{difference['mean']:+.3g} [{difference['low']:+.3g}, {difference['high']:+.3g}]"
        kind = verdict(difference, better) if difference["prompts"] >= FEW_PROMPTS else "even"
        text += f'<br><small class="{kind}">{interval}</small>'
    return text


def verdict(difference: dict[str, float], better: str) -> str:
    """Return "better", "worse", "even" if the interval contains 0, or "apart" without a better direction."""
    if difference["low"] <= 0 <= difference["high"]:
        return "even"
    if not better:
        return "apart"
    return "better" if (difference["mean"] > 0) == (better == "higher") else "worse"


def svg_intervals(entries: Sequence[dict[str, Any]]) -> str:
    """Return a plot with one line for each arm: a dot at the mean, a bar over the interval, on a common axis."""
    values = [entry[name] for entry in entries for name in ("mean", "low", "high") if entry[name] is not None]
    if not values:
        return ""
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.5 * abs(high) or 1.0
    low, high = low - margin, high + margin

    def x(value: float) -> float:
        return round(8 + (PLOT_WIDTH - 16) * (value - low) / (high - low), 1)

    height = PLOT_ROW * len(entries) + 18
    parts = []
    for row, entry in enumerate(entries):
        y = PLOT_ROW * row + 12
        if entry["low"] is not None:
            parts.append(
                f'<line class="arm{row % 6}" x1="{x(entry["low"])}" x2="{x(entry["high"])}" y1="{y}" y2="{y}"/>'
            )
        if entry["mean"] is not None:
            parts.append(f'<circle class="arm{row % 6}" cx="{x(entry["mean"])}" cy="{y}" r="5"/>')
    axis = (
        f'<text x="8" y="{height - 3}">{low:.4g}</text>'
        f'<text x="{PLOT_WIDTH - 8}" y="{height - 3}" text-anchor="end">{high:.4g}</text>'
    )
    return (
        f'<svg viewBox="0 0 {PLOT_WIDTH} {height}" width="{PLOT_WIDTH}" height="{height}">{"".join(parts)}{axis}</svg>'
    )
