"""Preparation of a dataset from a folder of videos: find, scan, choose, encode, write."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image

from ..checkpoint import disk_full_named, remove_unfinished, written_whole
from ..clips import FORMAT_VERSION, INDEX
from . import report, scenes, sources
from .choose import choose
from .encode import planned, write_all
from .scan import Cache, Scanned
from .settings import SCANS, VERSION, Note, Settings
from .shards import Encoders, Shard, digest, load
from .sources import Source

SHEET, REPORT = "contact_sheet.png", "report.md"

Progress = Callable[[str, int, int], None]
"""Called with a stage, the number of finished items and the number of all items. An exception stops the run."""


@dataclass(frozen=True)
class Prepared:
    """A prepared dataset.

    Args:
        folder: Its folder.
        index: Contents of its index.json.
        sheet: Contact sheet, uint8 RGB [h, w, 3].
        report: Report as Markdown.
    """

    folder: Path
    index: dict
    sheet: np.ndarray
    report: str


def prepare(
    folder: Path,
    out: Path,
    encoders: Encoders,
    settings: Settings,
    progress: Progress = lambda stage, done, total: None,
) -> Prepared:
    """Make a dataset in `out` from the videos below `folder`.

    Shards in `out` that were made from the same inputs are kept, so a stopped run is continued.

    Raises:
        ValueError: A setting is wrong, or all clips were left out.
        RuntimeError: PySceneDetect is missing, or the disk is full.
    """
    scenes.check()
    _check_size(settings, math.lcm(encoders.ratio, settings.downscale))
    _check_folder(out, folder)
    found, notes = sources.find(folder, out, settings.names_as_captions)
    out.mkdir(parents=True, exist_ok=True)
    scanned = _scan(found, out, settings, progress)
    clips = choose(found, scanned, encoders, settings, notes=notes, tick=partial(progress, "score"))
    if not clips:
        raise ValueError(f"All clips of the {len(found)} videos were left out. {_reasons(notes)}")
    by_name = {source.name: source for source in found}
    shards = planned(clips, by_name, encoders, settings, notes)
    write_all(shards, by_name, out, encoders=encoders, settings=settings, tick=partial(progress, "encode"))
    results = list(zip(found, scanned, strict=True))
    return _finish(out, shards, folder=folder, encoders=encoders, settings=settings, notes=notes, scanned=results)


def _check_size(settings: Settings, multiple: int) -> None:
    if settings.width % multiple or settings.height % multiple:
        by = f" and a downscale of {settings.downscale}" if settings.downscale > 1 else ""
        fitting = "x".join(str(max(1, round(side / multiple)) * multiple) for side in (settings.width, settings.height))
        raise ValueError(
            f"The size is {settings.width}x{settings.height}, but this VAE{by} needs multiples of {multiple}: "
            f"use, for example, {fitting}."
        )


def _check_folder(out: Path, folder: Path) -> None:
    """Raise ValueError for a folder with other files than those of a dataset, or with that of another folder."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: give a folder for the dataset.")
    if out.is_dir() and any(out.iterdir()) and not any((out / name).is_file() for name in (INDEX, SCANS)):
        raise ValueError(
            f"{out} contains files, but no dataset: give a new folder, or the folder of an earlier dataset."
        )
    try:
        earlier = Path(json.loads((out / INDEX).read_text("utf-8"))["folder"])
    except (OSError, ValueError, KeyError, TypeError):  # there is none, or it is damaged and will be replaced
        return
    if earlier != folder.resolve() and earlier.is_dir():
        raise ValueError(
            f"{out} is the dataset of {earlier}, which the clips of {folder} would replace: give another name or "
            "folder, or delete this dataset."
        )


def _scan(found: Sequence[Source], out: Path, settings: Settings, progress: Progress) -> list[Scanned]:
    cache, results = Cache(out / SCANS, settings), []
    for number, source in enumerate(found):
        with disk_full_named(out):
            results.append(cache.scan(source, settings, lambda done=number: progress("scan", done, len(found))))
        progress("scan", number + 1, len(found))
    return results


def _reasons(notes: Sequence[Note]) -> str:
    """Return the most frequent reasons with an example of each, for an error message."""
    examples: dict[str, list[Note]] = {}
    for note in notes:
        if note.left_out:
            examples.setdefault(note.reason, []).append(note)
    often = sorted(examples.items(), key=lambda item: -len(item[1]))[:5]
    return " ".join(
        f"{kept[0].source}{f' and {len(kept) - 1} more' if len(kept) > 1 else ''}: {reason}" for reason, kept in often
    )


def _finish(
    out: Path,
    shards: Sequence[Shard],
    *,
    folder: Path,
    encoders: Encoders,
    settings: Settings,
    notes: list[Note],
    scanned: Sequence[tuple[Source, Scanned]],
) -> Prepared:
    """Write the index, the contact sheet and the report. Remove shards of an earlier run."""
    clips, listed = [], []
    for shard in shards:
        stored = load(out, shard)
        if stored is None:
            raise RuntimeError(
                f"{out / shard.file} was changed while the dataset was being made: run the same command again."
            )
        rows, more = stored
        notes = notes + more
        clips += [{**row, "shard": shard.file, "row": number} for number, row in enumerate(rows)]
        listed.append({"file": shard.file, "preview": shard.preview, "size": shard.size, "clips": len(rows)})
    if not clips:
        raise ValueError(f"All clips were left out. {_reasons(notes)}")
    index = {
        "format_version": FORMAT_VERSION,
        "folder": str(folder.resolve()),
        "key": digest(VERSION, asdict(settings), encoders.identity, encoders.base, [shard.key for shard in shards]),
        "base": encoders.base,
        "encoders": encoders.identity,
        "settings": asdict(settings),
        "frames": settings.frames,
        "fps": settings.fps,
        "size": [settings.width, settings.height],
        "downscale": settings.downscale,
        "shards": listed,
        "clips": clips,
        "notes": [vars(note) for note in notes],
        "sources": [{"source": source.name, "caption": source.caption, **result.facts} for source, result in scanned],
    }
    sheet, words = report.contact_sheet(out, index), report.table(index)
    with disk_full_named(out):
        with written_whole(out / SHEET) as temporary:
            PIL.Image.fromarray(sheet).save(temporary, format="png")
        (out / REPORT).write_text(words + "\n", "utf-8")
        with written_whole(out / INDEX) as temporary:
            temporary.write_text(json.dumps(index, ensure_ascii=False), "utf-8")
    wanted = {name for shard in shards for name in (shard.file, shard.preview)}
    for old in [*out.glob("shard-*.safetensors"), *out.glob("shard-*.mp4")]:
        if old.name not in wanted:
            old.unlink()
    remove_unfinished(out, "")
    return Prepared(out, index, sheet, words)
