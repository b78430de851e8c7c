"""Selection of clips: leave out duplicates, clips with long captions, and clips that do not pass the filters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby

from . import filters
from .candidate import Candidate
from .duplicates import Duplicates
from .extract import extract
from .resize import fit
from .scan import Scanned
from .settings import Note, Settings
from .shards import Encoders
from .sources import Source

MOST_WINDOWS = 3  # longest caption, in windows of the text encoder


def choose(
    found: Sequence[Source],
    scanned: Sequence[Scanned],
    encoders: Encoders,
    settings: Settings,
    *,
    notes: list[Note],
    tick: Callable[[int, int], None],
) -> list[Candidate]:
    """Return the clips to encode. The reasons why others are left out are added to `notes`.

    tick: Called with the number of scored clips and the number of all clips.

    Raises:
        ValueError: The model that a filter needs is missing.
    """
    clips = _candidates(found, scanned, notes)
    clips = _different(clips, notes) if not settings.keep_duplicates else clips
    clips = _short_captions(clips, encoders, notes)
    _score(clips, {source.name: source for source in found}, encoders, settings, tick)
    return _passing(clips, settings, notes)


def _candidates(found: Sequence[Source], scanned: Sequence[Scanned], notes: list[Note]) -> list[Candidate]:
    """Return all clips, with their captions. Problems of sources are added to `notes`."""
    clips = []
    for source, result in zip(found, scanned, strict=True):
        if result.left_out:
            notes.append(Note(source.name, result.left_out))
        notes += [Note(source.name, words, left_out=False) for words in result.notes]
        for clip in result.clips:
            clip.caption = source.caption
            clips.append(clip)
    return clips


def _different(clips: Sequence[Candidate], notes: list[Note]) -> list[Candidate]:
    seen, kept = Duplicates(), []
    for clip in clips:
        earlier = seen.earlier(clip.look_array(), f"{clip.source} at {clip.start:.2f} s")
        if earlier:
            notes.append(Note(clip.source, f"It looks like {earlier}.", clip.start))
        else:
            kept.append(clip)
    return kept


def _short_captions(clips: Sequence[Candidate], encoders: Encoders, notes: list[Note]) -> list[Candidate]:
    kept, known = [], {}
    for clip in clips:
        if clip.caption not in known:
            known[clip.caption] = encoders.windows(clip.caption)
        if known[clip.caption] > MOST_WINDOWS:
            count = known[clip.caption]
            reason = (
                f"Its caption needs {count} windows of the text encoder: shorten it to {MOST_WINDOWS} windows or less."
            )
            notes.append(Note(clip.source, reason, clip.start))
        else:
            kept.append(clip)
    return kept


def _score(
    clips: list[Candidate],
    by_name: dict[str, Source],
    encoders: Encoders,
    settings: Settings,
    tick: Callable[[int, int], None],
) -> None:
    """Compute the scores that the filters need.

    Raises:
        ValueError: The model that a filter needs is missing.
    """
    for percent, function, what in (
        (settings.least_matching, encoders.matching, "by their captions needs a CLIP vision model"),
        (
            settings.least_aesthetic,
            encoders.aesthetic,
            "by their looks needs a CLIP vision model and an aesthetic model",
        ),
    ):
        if percent and function is None:
            raise ValueError(f"Leaving out clips {what}: give the file, or set the percentage to 0.")
    if not encoders.matching and not encoders.aesthetic:
        return
    done = 0
    for name, group in groupby(clips, key=lambda clip: clip.source):
        of_source = list(group)
        firsts = [replace(clip, frames=clip.frames[:1]) for clip in of_source]
        fitted = fit(of_source[0].size, (settings.width, settings.height))
        for clip, (_, frames) in zip(of_source, extract(by_name[name], firsts, fitted, settings.fps), strict=True):
            if frames is not None:
                clip.matching = encoders.matching(frames[0], clip.caption) if encoders.matching else None
                clip.aesthetic = encoders.aesthetic(frames[0]) if encoders.aesthetic else None
            done += 1
            tick(done, len(clips))


def _passing(clips: Sequence[Candidate], settings: Settings, notes: list[Note]) -> list[Candidate]:
    kept = []
    for clip, reason in zip(clips, filters.reasons(clips, settings), strict=True):
        if reason:
            notes.append(Note(clip.source, reason, clip.start))
        else:
            kept.append(clip)
    return kept
