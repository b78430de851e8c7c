"""Search of a folder for videos, folders of numbered frames, and their captions."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .settings import SCANS, Note, printable

ANIMATIONS = {".gif", ".webp", ".apng"}
VIDEOS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv", ".3gp"}
PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
TABLES = {".jsonl", ".csv"}
FILE_COLUMNS = ("file_name", "file", "video", "video_path", "path", "name")
CAPTION_COLUMNS = ("caption", "text", "prompt")
NUMBER = re.compile(r"\d+$")
"""Of a frame, at the end of its name."""


@dataclass(frozen=True)
class Source:
    """A video file or a sequence of numbered frames.

    Args:
        path: The file or folder.
        name: Its path relative to the searched folder, with forward slashes. If a folder has several sequences, the
            name of the frames follows.
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

    Hidden files and the folder `without`, where the dataset is written, are ignored, and other datasets and training
    runs are left out.

    Raises:
        ValueError: `folder` is not a folder or contains no video.
    """
    folder = folder.resolve()
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: give a folder of videos.")
    files, unread = files_below(folder, without)
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
    notes = [*unread, *misnamed, *notes]
    captioned = []
    for source in found:
        caption = printable(captions.get(source.name, "")).strip()
        if not caption:
            last = PurePosixPath(source.name)
            words = re.sub(r"[\s_\-.]+", " ", last.name if source.pictures else last.stem).strip()
            fallback = words if names_as_captions else ""
            used = "its file name" if fallback else "the empty text"
            notes.append(Note(source.name, f"It has no caption, so {used} is used.", left_out=False))
            caption = fallback
        captioned.append(Source(source.path, source.name, caption, source.pictures))
    return captioned, notes


def files_below(folder: Path, without: Path | None = None) -> tuple[list[Path], list[Note]]:
    """Return the files in a folder and its subfolders, also linked ones, and notes on folders that are left out.

    Hidden files and the folder `without` are ignored.
    """
    files, notes = [], []
    ignored = set() if without is None else {without.resolve()}

    def note(path: str | Path, reason: str) -> None:
        notes.append(Note(printable(Path(path).relative_to(folder).as_posix()), reason))

    def unreadable(error: OSError) -> None:
        note(error.filename, f"The folder cannot be read ({error.strerror}): change its permissions.")

    for where, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        parent = Path(where)
        real = parent.resolve()
        is_made = parent != folder and _is_made(names)
        if is_made and real not in ignored:
            note(parent, "The folder is a dataset or a training run, so its videos are not used.")
        if is_made or real in ignored:
            folders.clear()
            continue
        ignored.add(real)  # a link may lead back to a folder above
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [parent / name for name in names if not name.startswith(".") and (parent / name).is_file()]
    return sorted(files), notes


def _is_made(names: Iterable[str]) -> bool:
    """Return whether a folder with these files is a dataset or a training run. Their videos have captions drawn in."""
    return any(name == SCANS or name.endswith("_raw.safetensors") for name in names)


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
    """Yield sequences of two or more pictures of a folder whose names differ in the number at their end alone.

    Pictures are sorted by this number.
    """
    sequences: dict[tuple[Path, str], list[Path]] = {}
    for file in files:
        if file.suffix.lower() in PICTURES and _number(file) is not None and file.parent != folder:
            if file.suffix.lower() not in ANIMATIONS or _has_neighbour(file):
                prefix = NUMBER.sub("", file.stem).rstrip(" _-.")
                sequences.setdefault((file.parent, prefix), []).append(file)
    sequences = {key: pictures for key, pictures in sequences.items() if len(pictures) > 1}
    in_folder = Counter(parent for parent, _ in sequences)
    for (parent, prefix), pictures in sequences.items():
        ordered = tuple(sorted(pictures, key=lambda file: (_number(file), file.name)))
        name = parent / prefix if in_folder[parent] > 1 else parent
        yield Source(parent, name.relative_to(folder).as_posix(), pictures=ordered)


def _number(file: Path) -> int | None:
    found = NUMBER.search(file.stem)
    return int(found[0]) if found else None


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
        for line, name, caption, problem in _lines(table):
            key = next((key for key in _keys(table, folder, name) if key in by_name), "")
            if problem or not key:
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


def _keys(table: Path, folder: Path, name: str) -> Iterator[str]:
    """Yield the possible source names for a path in a table. The path is absolute or relative to the table's folder.

    A link is a source by its own name. An absolute path may lead through links to the searched folder.
    """
    path = table.parent / name
    for each in (Path(os.path.normpath(path)), path.resolve()):
        if folder in each.parents:
            yield each.relative_to(folder).as_posix()


def _lines(table: Path) -> Iterator[tuple[int, str, str, str]]:
    """Yield the number of each line of a table, its file, caption and problem. One of caption and problem is ""."""
    try:
        text = table.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        yield 1, "", "", f"the file cannot be read ({error}); save it as UTF-8"
        return
    if table.suffix.lower() == ".csv":
        rows = _csv(text)
    else:
        rows = ((line, _json(words)) for line, words in enumerate(text.split("\n"), 1) if words.strip())
    for line, row in rows:
        if isinstance(row, csv.Error):
            yield line, "", "", f"its quotes are wrong ({row}), so the lines from here on are left out"
            return
        if not isinstance(row, dict):
            yield line, "", "", 'it has another form than {"file_name": "a.mp4", "caption": "..."}'
            continue
        if None in row:
            yield line, "", "", "it has more columns than the first line; put a caption with commas in quotes"
            continue
        name = next((row[column] for column in FILE_COLUMNS if row.get(column)), None)
        caption = next((row[column] for column in CAPTION_COLUMNS if row.get(column) is not None), None)
        if not isinstance(name, str) or not isinstance(caption, str):
            names = ", ".join(FILE_COLUMNS), ", ".join(CAPTION_COLUMNS)
            yield line, "", "", f"it lacks a file ({names[0]}) or a caption ({names[1]})"
        else:
            yield line, name, " ".join(caption.split()), ""


def _csv(text: str) -> Iterator[tuple[int, object]]:
    """Yield the last line and the values of each row of a table with commas, or with semicolons.

    An error ends the table, and is yielded instead of the values.
    """
    header = text.partition("\n")[0]
    delimiter = ";" if ";" in header and "," not in header else ","
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in rows:
            yield rows.line_num, row
    except csv.Error as error:
        yield rows.line_num + 1, error  # the row after the last good one


def _json(line: str) -> object:
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None
