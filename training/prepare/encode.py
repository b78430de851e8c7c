"""Encoding of the chosen clips into shards, each with a preview video."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from ..checkpoint import disk_full_named, written_whole
from ..clips import INDEX
from . import report
from .candidate import Candidate
from .extract import extract
from .resize import buckets, fit, nearest
from .settings import VERSION, Note, Settings
from .shards import Contents, Encoders, Shard, digest, load, plan, save
from .sources import Source

PREVIEW = 12  # pixels per byte of a preview video
BUCKET_STEP = 8  # bucket sizes are multiples of this many latents, because a UNet halves them three times
ENLARGED = 1.5  # factor of enlargement above which a note is made


def planned(
    clips: Sequence[Candidate], by_name: dict[str, Source], encoders: Encoders, settings: Settings, notes: list[Note]
) -> list[Shard]:
    """Return the shards for `clips`. Notes on enlarged videos are added to `notes`."""
    size = settings.width, settings.height
    sizes = buckets(*size, math.lcm(BUCKET_STEP * encoders.ratio, settings.downscale)) if settings.buckets else [size]
    sized = [(clip, nearest(clip.size, sizes)) for clip in clips]
    shards = plan(sized, encoders, settings)
    stamps = {name: by_name[name].stamp() for name in {clip.source for clip in clips}}
    for shard in shards:
        contents = [(clip.source, stamps[clip.source], clip.caption, clip.frames) for clip in shard.clips]
        shard.key = digest(VERSION, shard.size, settings.fps, settings.downscale, encoders.identity, contents)
    for name, group in groupby(sized, key=lambda pair: pair[0].source):
        clip, of = next(group)
        enlarged = fit(clip.size, of).enlarged
        if enlarged > ENLARGED:
            words = (
                f"Its size is {clip.size[0]}x{clip.size[1]}, so it is enlarged {enlarged:.1f} times to {of[0]}x{of[1]}."
            )
            notes.append(Note(name, words, left_out=False))
    return shards


def write_all(
    shards: Sequence[Shard],
    by_name: dict[str, Source],
    out: Path,
    *,
    encoders: Encoders,
    settings: Settings,
    tick: Callable[[int, int], None],
) -> None:
    """Write the missing shards.

    tick: Called with the number of encoded clips and the number of all clips.

    Raises:
        RuntimeError: There is too little space on the disk.
    """
    missing = [shard for shard in shards if load(out, shard) is None]
    total, done = sum(len(shard.clips) for shard in shards), 0
    if missing:
        _check_room(out, missing, encoders, settings)
        (out / INDEX).unlink(missing_ok=True)  # its shards will change
    for shard in shards:
        if shard in missing:
            with disk_full_named(out):
                _write(
                    shard,
                    by_name,
                    out,
                    encoders=encoders,
                    settings=settings,
                    tick=lambda rows, done=done: tick(done + rows, total),
                )
        done += len(shard.clips)
        tick(done, total)


def _check_room(out: Path, shards: Sequence[Shard], encoders: Encoders, settings: Settings) -> None:
    needed = sum(shard.bytes(encoders, settings) for shard in shards)
    needed += sum(len(shard.clips) * settings.frames * shard.size[0] * shard.size[1] for shard in shards) // PREVIEW
    clips = sum(len(shard.clips) for shard in shards)
    free = shutil.disk_usage(out).free
    if needed > free:
        raise RuntimeError(
            f"{clips} clips need about {needed / 2**20:.0f} MiB, but only {free / 2**20:.0f} MiB are free on the disk "
            f"of {out}: free some space, or make fewer clips."
        )


def _write(
    shard: Shard,
    by_name: dict[str, Source],
    out: Path,
    *,
    encoders: Encoders,
    settings: Settings,
    tick: Callable[[int], None],
) -> None:
    captions, count = {clip.caption for clip in shard.clips}, 0
    contents = Contents(encoders, len(shard.clips), captions, settings.downscale)
    with (
        written_whole(out / shard.preview) as temporary,
        report.Preview(temporary, shard.size, settings.fps) as preview,
    ):
        for name, group in groupby(shard.clips, key=lambda clip: clip.source):
            of_source = list(group)
            fitted = fit(of_source[0].size, shard.size)
            for clip, frames in extract(by_name[name], of_source, fitted, settings.fps):
                reason = "It can no longer be read." if frames is None else contents.add(clip, frames, fitted.crop)
                if reason or frames is None:
                    shard.notes.append(Note(clip.source, reason, clip.start))
                else:
                    preview.add(frames, clip.caption)
                count += 1
                tick(count)
    save(out, shard, contents)
