"""First pass over a video: find cuts, measure motion and mean colours, and choose clips. Frames are not kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from . import motion, sampling
from .candidate import Candidate
from .decode import Facts, Unreadable, read
from .duplicates import look
from .scenes import Cuts
from .settings import VERSION, Settings
from .sources import Source

LONGEST = 256  # longer side of the scanned frames in pixels
REPORT_EVERY = 64  # frames between two calls of `tick`


@dataclass
class Scanned:
    """Result of the first pass over one source.

    Args:
        clips: Its clips, without captions.
        left_out: Reason why there are no clips, or "".
        notes: Problems that do not prevent the use of the source.
        facts: Codec, pixel format, size, rate, frames, seconds and scenes, as JSON values.
    """

    clips: list[Candidate] = field(default_factory=list)
    left_out: str = ""
    notes: list[str] = field(default_factory=list)
    facts: dict = field(default_factory=dict)


def scan(source: Source, settings: Settings, tick: Callable[[], None] = lambda: None) -> Scanned:
    """Read a source once. For a file that cannot be read, `left_out` has the reason.

    tick: Called every 64 frames. An exception stops the scan.
    """
    facts, result = Facts(), Scanned()
    times: list[float] = []
    starts: list[int] = []
    looks: list[np.ndarray] = []
    size = (0, 0)
    cuts, moving = Cuts(), motion.Motion()
    try:
        for index, frame in enumerate(read(source, settings.fps, longest=LONGEST, vectors=True, facts=facts)):
            if index % REPORT_EVERY == 0:
                tick()
            if index and frame.size != size:
                facts.notes.append(f"Its size changes after {frame.time:.2f} s; only the part before is used.")
                break
            size = frame.size
            cuts.add(index, frame.picture)
            if frame.after_gap:
                starts.append(index)
            moving.add(frame, frame.picture, use_vectors=facts.codec == "h264")
            times.append(frame.time)
            looks.append(look(frame.picture))
        starts += cuts.finish()
        spans = sampling.clips(times, starts, frames=settings.frames, fps=settings.fps, per_video=settings.per_video)
    except (Unreadable, sampling.TooFewFrames) as error:
        result.left_out, spans = str(error), []
    speeds, method = moving.speeds() if times else (np.zeros(0), "")
    for span in spans:
        mean, least = motion.of_clip(speeds, span.frames)
        three = np.stack([looks[span.frames[place]] for place in (0, settings.frames // 2, -1)])
        result.clips.append(
            Candidate(
                source=source.name, caption="", frames=span.frames, start=round(span.start, 4),
                stop=round(span.stop, 4), size=size, motion=round(mean, 6), least_motion=round(least, 6),
                motion_by=method, looks=three.tobytes().hex(),
            )
        )  # fmt: skip
    result.notes = facts.notes
    result.facts = {
        "codec": facts.codec, "pixels": facts.pixels, "width": size[0], "height": size[1],
        "rate": round(facts.rate, 3), "frames": len(times), "seconds": round(times[-1], 3) if times else 0.0,
        "scenes": len({0, *starts}),
    }  # fmt: skip
    return result


class Cache:
    """Results of scans in a file, one per line, so that a stopped run can be continued."""

    def __init__(self, path: Path, settings: Settings):
        self.path = path
        self._key = [VERSION, settings.frames, settings.fps, settings.per_video]
        self._known: dict[str, int] = {}  # stamp -> offset of its line
        if path.is_file():
            for offset, entry in self._entries():
                if entry.get("key") == self._key:
                    self._known[entry["name"] + entry["stamp"]] = offset

    def _entries(self) -> Iterator[tuple[int, dict]]:
        with self.path.open("rb") as file:
            while True:
                offset, line = file.tell(), file.readline()
                if not line:
                    return
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue  # an incomplete line of a run that was stopped
                if isinstance(entry, dict):
                    yield offset, entry

    def scan(self, source: Source, settings: Settings, tick: Callable[[], None]) -> Scanned:
        """Return the result of `scan`, from the file if it has it."""
        stamp = source.stamp()
        known = self._known.get(source.name + stamp)
        if known is not None:
            with self.path.open("rb") as file:
                file.seek(known)
                entry = json.loads(file.readline())
            clips = [
                Candidate(**clip | {"frames": tuple(clip["frames"]), "size": tuple(clip["size"])})
                for clip in entry.pop("clips")
            ]
            return Scanned(clips, entry["left_out"], entry["notes"], entry["facts"])
        result = scan(source, settings, tick)
        with self.path.open("a", encoding="utf-8") as file:
            if file.tell() and not self._ends_in_newline():
                file.write("\n")
            json.dump({"name": source.name, "stamp": stamp, "key": self._key} | asdict(result), file)
            file.write("\n")
        return result

    def _ends_in_newline(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, 2)
            return file.read(1) == b"\n"
