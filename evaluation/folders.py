"""Arms that are folders of finished videos, matched by the names of their files."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from .sweep import Clip
from .videos import SUFFIXES

PICTURES = ".png", ".jpg", ".jpeg", ".webp"
NAME_AND_SEED = re.compile(r"(.+)_(\d+)")
NO_SEED = -1
"""Seed of a video whose name has none, so that NAME and NAME_0 are two videos of one prompt."""


def clips_of(arm: str, folder: Path, prompts: Mapping[str, str] | None = None) -> list[Clip]:
    """Return the videos of a folder; an image of the same name beside a video is its conditioning image.

    prompts: id -> text. A video belongs to the prompt whose id is its name, or else its name without "_SEED". Without
    prompts, names that differ only in "_SEED" are one prompt. If one of their numbers has a leading zero, they are not
    seeds but counters, which other tools append to videos of different prompts.

    Raises:
        ValueError: the folder is missing, has no video, or has two with one name.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder. Give a folder of videos, or a graph in API format.")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.name[0] != ".")
    if not files:
        raise ValueError(f"{folder} has no video. Known endings: {', '.join(SUFFIXES)}.")
    names = [file.stem for file in files]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{folder} has several videos named {twice[0]!r}. Keep one of them.")
    parts = filter(None, map(NAME_AND_SEED.fullmatch, names))
    counted = {each[1] for each in parts if each[2] != str(int(each[2]))}
    return [_clip(arm, file, prompts or {}, counted) for file in files]


def _clip(arm: str, file: Path, prompts: Mapping[str, str], counted: Collection[str]) -> Clip:
    """counted: names whose numbers are counters."""
    group, seed = file.stem, NO_SEED
    parts = NAME_AND_SEED.fullmatch(group)
    if parts and group not in prompts:
        is_seed = parts[1] in prompts if prompts else parts[1] not in counted
        group, seed = (parts[1], int(parts[2])) if is_seed else (group, NO_SEED)
    references = (file.with_suffix(suffix) for suffix in PICTURES)
    found = next((each for each in references if each.exists()), None)
    return Clip(arm, file.stem, prompts.get(group, ""), group, seed, file, found)


def matched(clips: Sequence[Clip]) -> tuple[list[list[Clip]], list[str]]:
    """Return the clips of each name that all arms have, sorted by name, and the names that are missing in an arm.

    Raises:
        ValueError: the arms have no common name.
    """
    arms = list(dict.fromkeys(clip.arm for clip in clips))
    by_name: dict[str, dict[str, Clip]] = {}
    for clip in clips:
        by_name.setdefault(clip.name, {})[clip.arm] = clip
    complete = [[found[arm] for arm in arms] for _, found in sorted(by_name.items()) if len(found) == len(arms)]
    if not complete:
        examples = ", ".join(f"{arm}: {next(c.name for c in clips if c.arm == arm)}" for arm in arms)
        raise ValueError(f"The arms have no video of the same name ({examples}). Rename the files so that pairs match.")
    return complete, sorted(name for name, found in by_name.items() if len(found) < len(arms))


def few(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
