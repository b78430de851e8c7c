"""Reports of a dataset: preview videos and a contact sheet of the clips, and a table of problems."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import av
import av.video.frame
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

LEAST_WIDTH = 256  # width of a preview in pixels; smaller clips are enlarged
STRIP = 32  # height of the caption below a frame in pixels
SHEET_CLIPS, SHEET_FRAMES, SHEET_SIDE = 24, 8, 96
SHOWN = 40  # most lines of the table
FILES = 3  # more files with the same reason share one line
NUMBER = re.compile(r"[\d.]+")


class Preview:
    """Writer of an mp4 with all clips of one shard and their captions. Every clip starts with a key frame."""

    def __init__(self, path: Path, size: tuple[int, int], fps: float):
        self._path = path
        self._scale = -(-LEAST_WIDTH // size[0])
        self._size = size[0] * self._scale // 2 * 2, size[1] * self._scale // 2 * 2
        self._container = av.open(str(path), "w", format="mp4")
        self._rate = Fraction(fps).limit_denominator(1001)
        self._stream = self._container.add_stream("h264", rate=self._rate, options={"crf": "16"})
        self._stream.width, self._stream.height = self._size[0], self._size[1] + STRIP
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.thread_count = 1
        self._count = 0

    def add(self, frames: np.ndarray, caption: str) -> None:
        """Add a clip. frames: uint8 RGB [T, h, w, 3]."""
        strip = _text(caption or "(no caption)", self._size[0], STRIP)
        for number, frame in enumerate(frames):
            large = frame.repeat(self._scale, 0).repeat(self._scale, 1)[: self._size[1], : self._size[0]]
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.concatenate([large, strip])), format="rgb24")
            picture.pts, picture.time_base = self._count, 1 / self._rate
            picture.pict_type = av.video.frame.PictureType.I if number == 0 else av.video.frame.PictureType.NONE
            self._container.mux(self._stream.encode(picture))
            self._count += 1

    def __enter__(self) -> Preview:
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None and self._count:
            self._container.mux(self._stream.encode(None))
        self._container.close()
        self._path.touch()  # because without frames no file is written


def contact_sheet(folder: Path, index: dict) -> np.ndarray:
    """Return a picture, uint8 RGB [h, w, 3], with frames and captions of up to 24 clips of a dataset."""
    clips = index["clips"]
    count = min(SHEET_CLIPS, len(clips))
    chosen = [clips[int((number + 0.5) * len(clips) / count)] for number in range(count)]
    rows = []
    for clip in chosen:
        frames = _preview_frames((folder / clip["shard"]).with_suffix(".mp4"), clip["row"], index["frames"])
        places = np.unique(np.linspace(0, index["frames"] - 1, min(SHEET_FRAMES, index["frames"])).round().astype(int))
        thumbnails = [_thumbnail(frames[place]) for place in places]
        picture = np.concatenate([np.pad(t, ((0, 0), (0, 2), (0, 0))) for t in thumbnails], 1)
        words = f"{clip['caption'] or '(no caption)'}   [{clip['source']} {clip['start']:.1f} s]"
        rows.append(np.concatenate([_text(words, picture.shape[1], STRIP // 2, 11), picture]))
    width = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0))) for row in rows]
    columns = 2 if len(rows) > 6 else 1
    tall = -(-len(rows) // columns)
    stacks = [np.concatenate(rows[start : start + tall]) for start in range(0, len(rows), tall)]
    height = max(stack.shape[0] for stack in stacks)
    return np.concatenate([np.pad(stack, ((0, height - stack.shape[0]), (0, 6), (0, 0))) for stack in stacks], 1)


def _preview_frames(path: Path, row: int, frames: int) -> list[np.ndarray]:
    """Return the frames of one clip of a preview, without the caption."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate and stream.time_base
        first = Fraction(row * frames) / stream.average_rate
        container.seek(round(first / stream.time_base), stream=stream)
        kept = []
        for frame in container.decode(stream):
            number = round(Fraction(frame.pts * stream.time_base) * stream.average_rate)
            if number >= row * frames:
                kept.append(frame.to_ndarray(format="rgb24")[:-STRIP])
            if len(kept) == frames:
                break
    return kept


def _thumbnail(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    size = max(1, round(width * SHEET_SIDE / height)), SHEET_SIDE
    return np.asarray(PIL.Image.fromarray(frame).resize(size, PIL.Image.Resampling.BICUBIC, reducing_gap=1.0))


def _text(words: str, width: int, height: int, size: int = 12) -> np.ndarray:
    """Return a picture, uint8 [height, width, 3], with white text. Lines without room are left out."""
    picture = PIL.Image.new("RGB", (width, height), (24, 24, 24))
    draw, font = PIL.ImageDraw.Draw(picture), PIL.ImageFont.load_default(size)
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font) > width - 6 and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    for number, line in enumerate(lines[: max(1, height // (size + 3))]):
        draw.text((3, number * (size + 2) + 1), line, (255, 255, 255), font)
    return np.asarray(picture)


def table(index: dict) -> str:
    """Return the report as Markdown: number of clips, clips that were left out, and problems of those used."""
    clips, notes = index["clips"], index["notes"]
    sources = {clip["source"] for clip in clips}
    lines = [
        f"{len(clips)} clips of {index['frames']} frames at {index['fps']:g} fps from {len(sources)} of "
        f"{len(index['sources'])} videos, {len({clip['caption'] for clip in clips})} different captions."
    ]
    for title, left_out in (("Left out", True), ("Used, but", False)):
        of_kind = [note for note in notes if note["left_out"] == left_out]
        if of_kind:
            rows = _rows(of_kind)
            lines += ["", f"{title} ({len(of_kind)}):", "", "| file | at | why |", "| --- | --- | --- |"]
            lines += [f"| {' | '.join(_cell(words) for words in row)} |" for row in rows[:SHOWN]]
            if len(rows) > SHOWN:
                lines.append(f"| and {len(rows) - SHOWN} more | | index.json lists them |")
    return "\n".join(lines)


def _rows(notes: list[dict]) -> list[tuple[str, str, str]]:
    """Return rows of file, position and reason. Clips of one file, or many files, with the same reason share a row."""
    of_file: dict[tuple[str, str], list[dict]] = {}
    for note in notes:
        of_file.setdefault((note["source"], NUMBER.sub("", note["reason"])), []).append(note)
    rows = []
    for group in of_file.values():
        first, more = group[0], len(group) - 1
        at = "" if first["start"] is None else f"{first['start']:.2f} s" + (f" and {more} more" if more else "")
        rows.append((first["source"], at, first["reason"]))
    of_reason: dict[tuple[str, str], list[str]] = {}
    for source, at, reason in rows:
        of_reason.setdefault((at, reason), []).append(source)
    return [
        (source if len(sources) <= FILES else f"{sources[0]} and {len(sources) - 1} more", at, reason)
        for (at, reason), sources in of_reason.items()
        for source in (sources if len(sources) <= FILES else sources[:1])
    ]


def _cell(words: str) -> str:
    return words.replace("|", "\\|").replace("\n", " ")
