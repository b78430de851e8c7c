"""Search of a folder for videos, folders of numbered frames, and their captions."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .settings import Note, printable

ANIMATIONS = {".gif", ".webp", ".apng"}
VIDEOS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv", ".3gp"}
PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
TABLES = {".jsonl", ".csv"}
FILE_COLUMNS = ("file_name", "file", "video", "video_path", "path", "name")
CAPTION_COLUMNS = ("caption", "text", "prompt")


@dataclass(frozen=True)
class Source:
    """A video file or a folder of numbered frames.

    Args:
        path: The file or folder.
        name: Its path relative to the searched folder, with forward slashes.
        caption: Its caption, or "" if it has none.
        pictures: The numbered frames in order; empty for a video file.
    """

    path: Path
    name: str
    caption: str = ""
    pictures: tuple[Path, ...] = ()

    def stamp(self) -> str:
        """Return a digest of names, sizes and modification times, which changes when a file is replaced."""
        files = [(file.name, file.stat()) for file in self.pictures or (self.path,)]
        facts = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in files]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def find(folder: Path, without: Path | None = None, names_as_captions: bool = False) -> tuple[list[Source], list[Note]]:
    """Return the sources below `folder`, sorted by name, and notes on missing, unused and unreadable captions.

    Hidden files and the folder `without`, where the dataset is written, are ignored.

    Raises:
        ValueError: `folder` is not a folder or contains no video.
    """
    folder = folder.resolve()
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: give a folder of videos.")
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and not _skipped(file, folder, without)]
    every = sorted([*_videos(files, folder), *_numbered(files, folder)], key=lambda source: source.name)
    found = [source for source in every if printable(source.name) == source.name]
    misnamed = [Note(source.name, "Its name is not UTF-8: rename it.") for source in every if source not in found]
    if not every:
        kinds = ", ".join(sorted(kind[1:] for kind in VIDEOS | ANIMATIONS))
        raise ValueError(
            f"{folder} contains no video and no folder of numbered frames. Known endings of video files: {kinds}."
        )
    if not found:
        raise ValueError(f"The names of all videos in {folder} are not UTF-8: rename them.")
    captions, notes = _captions(files, folder, found)
    notes = [*misnamed, *notes]
    captioned = []
    for source in found:
        caption = printable(captions.get(source.name, "")).strip()
        if not caption:
            fallback = re.sub(r"[\s_\-.]+", " ", source.path.stem).strip() if names_as_captions else ""
            used = "its file name" if fallback else "the empty text"
            notes.append(Note(source.name, f"It has no caption, so {used} is used.", left_out=False))
            caption = fallback
        captioned.append(Source(source.path, source.name, caption, source.pictures))
    return captioned, notes


def _skipped(file: Path, folder: Path, without: Path | None) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return hidden or (without is not None and without.resolve() in file.parents)


def _videos(files: Iterable[Path], folder: Path) -> Iterator[Source]:
    for file in files:
        kind = file.suffix.lower()
        numbered_picture = kind in PICTURES and _number(file) is not None and _has_neighbour(file)
        if kind in VIDEOS | ANIMATIONS and not numbered_picture:
            yield Source(file, file.relative_to(folder).as_posix())


def _has_neighbour(picture: Path) -> bool:
    """Return whether `picture` is one of several numbered still pictures. An animated picture is a source itself."""
    import PIL.Image

    try:
        with PIL.Image.open(picture) as image:
            animated = getattr(image, "is_animated", False)
    except Exception:  # Pillow raises errors of any class for damaged files
        return False
    return not animated and sum(_number(file) is not None for file in picture.parent.glob(f"*{picture.suffix}")) > 1


def _numbered(files: Iterable[Path], folder: Path) -> Iterator[Source]:
    """Yield folders with two or more pictures whose names end in a number. Pictures are sorted by this number."""
    of_folder: dict[Path, list[Path]] = {}
    for file in files:
        if file.suffix.lower() in PICTURES and _number(file) is not None and file.parent != folder:
            if file.suffix.lower() not in ANIMATIONS or _has_neighbour(file):
                of_folder.setdefault(file.parent, []).append(file)
    for parent, pictures in of_folder.items():
        if len(pictures) > 1:
            ordered = tuple(sorted(pictures, key=lambda file: (_number(file), file.name)))
            yield Source(parent, parent.relative_to(folder).as_posix(), pictures=ordered)


def _number(file: Path) -> int | None:
    found = re.search(r"(\d+)$", file.stem)
    return int(found[1]) if found else None


def _captions(files: list[Path], folder: Path, found: list[Source]) -> tuple[dict[str, str], list[Note]]:
    """Return source name -> caption, and notes. A text file beside a video overrides a line of a table."""
    captions: dict[str, str] = {}
    notes: list[Note] = []
    by_name = {source.name: source for source in found}
    stems: dict[str, list[Source]] = {}
    for source in found:
        stems.setdefault(source.name if source.pictures else source.name[: -len(source.path.suffix)], []).append(source)
    for table in (file for file in files if file.suffix.lower() in TABLES):
        where = table.relative_to(folder).as_posix()
        for line, (name, caption, problem) in enumerate(_lines(table), start=1):
            key = _key(table, folder, name)
            if problem or key not in by_name:
                reason = problem or f'Line {line}: there is no video "{name}".'
                notes.append(Note(where, reason if not problem else f"Line {line}: {problem}", left_out=False))
            else:
                captions[key] = caption
    for text in (file for file in files if file.suffix.lower() == ".txt"):
        name = text.relative_to(folder).as_posix()
        for_whom = stems.get(name[: -len(".txt")], []) + [s for s in [by_name.get(name[: -len(".txt")])] if s]
        if not for_whom:
            notes.append(Note(name, "There is no video with this name.", left_out=False))
            continue
        try:
            caption = " ".join(text.read_text("utf-8-sig").split())
        except (OSError, UnicodeDecodeError) as error:
            notes.append(Note(name, f"The caption cannot be read ({error}): save it as UTF-8.", left_out=False))
            continue
        captions |= {source.name: caption for source in for_whom}
    return captions, notes


def _key(table: Path, folder: Path, name: str) -> str:
    """Return the source name for a path in a table. The path is absolute or relative to the table's folder."""
    try:
        return (table.parent / name).resolve().relative_to(folder).as_posix()
    except ValueError:
        return name


def _lines(table: Path) -> Iterator[tuple[str, str, str]]:
    """Yield file, caption and problem of each line of a table. One of caption and problem is ""."""
    try:
        text = table.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        yield "", "", f"the file cannot be read ({error}); save it as UTF-8"
        return
    if table.suffix.lower() == ".csv":
        rows = _csv(text)
    else:
        rows = (_json(line) for line in text.split("\n") if line.strip())
    for row in rows:
        if isinstance(row, csv.Error):
            yield "", "", f"its quotes are wrong ({row}), so the lines from here on are left out"
            return
        if not isinstance(row, dict):
            yield "", "", 'it has another form than {"file_name": "a.mp4", "caption": "..."}'
            continue
        name = next((row[column] for column in FILE_COLUMNS if row.get(column)), None)
        caption = next((row[column] for column in CAPTION_COLUMNS if row.get(column) is not None), None)
        if not isinstance(name, str) or not isinstance(caption, str):
            yield "", "", f"it lacks a file ({', '.join(FILE_COLUMNS)}) or a caption ({', '.join(CAPTION_COLUMNS)})"
        else:
            yield name, " ".join(caption.split()), ""


def _csv(text: str) -> Iterator[object]:
    """Yield the rows of a table with commas, or with semicolons, and the error that ends it, if there is one."""
    header = text.partition("\n")[0]
    delimiter = ";" if ";" in header and "," not in header else ","
    try:
        yield from csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    except csv.Error as error:
        yield error


def _json(line: str) -> object:
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None
