"""The steps of `run.py evaluate`, without ComfyUI: read the arms, render, score, report."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .folders import clips_of, few, matched
from .graph import Graph
from .measure import running_servers
from .prompts import Prompt, read_prompts
from .report import write_report
from .score import Encoders, score_all
from .sweep import Clip, GraphArm, Sweep, contact_sheet


class FolderArm(NamedTuple):
    name: str
    folder: Path
    about: str


def read_arm(words: Sequence[str]) -> GraphArm | FolderArm:
    """Read NAME PATH [NODE.WIDGET=VALUE ...].

    Raises:
        ValueError: the name is not a valid folder name, the path is neither graph nor folder, or a change is wrong.
    """
    if len(words) < 2:
        raise ValueError(f"--arm {' '.join(words)} needs a name and a graph or a folder of videos.")
    name, path, *changes = words[0], Path(words[1]), *words[2:]
    if not re.fullmatch(r"[\w-][\w.-]*", name) or name == "report":
        raise ValueError(
            f"The arm {name!r} is not a valid folder name. Use letters, digits, - and _, but not 'report'."
        )
    if path.is_dir():
        if changes:
            raise ValueError(f"The arm {name!r} is a folder of videos, so {changes[0]!r} has no effect. Remove it.")
        return FolderArm(name, path, str(path))
    graph = Graph.load(path)
    for change in changes:
        target, equals, text = change.partition("=")
        if not equals or "." not in target:
            raise ValueError(f"{change!r} is not a change. Write NODE.WIDGET=VALUE, for example KSampler.steps=30.")
        graph.change(target, read_value(text))
    return GraphArm(name, graph, " ".join([str(path), *changes]))


def read_value(text: str):
    """Parse a widget value: JSON if `text` is JSON, otherwise the text itself."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float | bool | str) else text


def evaluate(
    arms: Sequence[GraphArm | FolderArm],
    output: Path,
    *,
    prompts: Path | None,
    seeds: Sequence[int],
    servers: Sequence[str] | None,
    encoders: Encoders,
    notes: Sequence[str] = (),
) -> Path:
    """Render what is missing, score everything, write the report; return its path.

    Raises:
        ValueError: the arms, prompts or videos do not fit together.
        LauncherError: no server is left.
    """
    names = [arm.name for arm in arms]
    if len(names) < 2:
        raise ValueError("A comparison needs at least two arms. Give --arm twice.")
    folded = [name.casefold() for name in names]  # some file systems ignore case
    if twice := [name for name in names if folded.count(name.casefold()) > 1]:
        raise ValueError(f"Two arms are named {twice[0]!r}. Give each its own name.")
    texts = read_prompts(prompts) if prompts else []
    graphs = [arm for arm in arms if isinstance(arm, GraphArm)]
    if graphs and not texts:
        raise ValueError("Graphs need prompts. Give a list of them with --prompts.")
    clips, problems = render(graphs, output, texts, seeds, servers) if graphs else ([], [])
    known = {prompt.id: prompt.text for prompt in texts}
    for arm in arms:
        if isinstance(arm, FolderArm):
            clips += clips_of(arm.name, arm.folder, known)
    rows, lacking = matched(sorted(clips, key=lambda clip: names.index(clip.arm)))
    if lacking:
        problems.append(f"Left out, because an arm lacks them: {few(lacking)}.")
    scores, unreadable = score_all(rows, output, encoders)
    problems += [f"{name} is left out: {reason}" for name, reason in unreadable.items()]
    problems += [*_changed_forms(scores), *notes]
    contact_sheet(output / "contact_sheet.png", [clip for row in rows for clip in row if row[0].name not in unreadable])
    return write_report(output, rows, scores, arms={arm.name: arm.about for arm in arms}, notes=problems)


def render(
    arms: Sequence[GraphArm],
    output: Path,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    servers: Sequence[str] | None,
) -> tuple[list[Clip], list[str]]:
    """Return the rendered clips, and a sentence for each reason why clips are missing."""
    sweep = Sweep(output, arms, prompts, seeds)
    with running_servers(servers) as addresses:
        failed = sweep.run(addresses)
    reasons: dict[str, list[str]] = {}
    for key, reason in failed.items():
        reasons.setdefault(reason, []).append(key)
    problems = [f"Failed: {few(keys)}. {reason}" for reason, keys in reasons.items()]
    for problem in problems:
        print(problem, flush=True)
    clips = sweep.clips()
    for arm in arms:
        if all(clip.arm != arm.name for clip in clips):
            raise ValueError(f"The arm {arm.name!r} has no video. {problems[0] if problems else ''}")
    return clips, problems


def _changed_forms(scores: dict[tuple[str, str], dict]) -> list[str]:
    changed = [name for (_, name), found in scores.items() if found["form"] != found["measured as"]]
    names = list(dict.fromkeys(changed))
    if not names:
        return []
    return [f"Compared at the smallest size, length and frame rate, because they differ: {few(names)}."]
