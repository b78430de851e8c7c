"""One comparison of two folders of videos: its pairs in a common form, prompts, examples, tasks and votes."""

from __future__ import annotations

import hashlib
import hmac
import random
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from ..folders import clips_of, few, matched
from ..sweep import digest_of
from ..videos import Video, in_common, read, write_mp4
from .faults import FAULTS, spoiled
from .questions import QUESTIONS
from .store import Store
from .tasks import ARMS, Arm, Task, tasks


class Pair(NamedTuple):
    """The two files with one name, and the text that both were made from. group: the same for pairs of one prompt."""

    first: Path
    second: Path
    prompt: str
    group: str


class Session:
    """Everything that the page of `server` needs.

    Args:
        folder: where prepared videos and `votes.sqlite` are kept. The same call continues a session.
        seed: of the order and the sides.
        check_every: pairs between two attention checks; 0 leaves them out.
        report: called with one line of progress.

    Raises:
        ValueError: see `find_pairs`; or `folder` holds another comparison.
    """

    def __init__(
        self,
        first: Path,
        second: Path,
        folder: Path,
        *,
        prompts: Mapping[str, str] | None = None,
        seed: int = 0,
        check_every: int = 10,
        report: Callable[[str], None] = print,
    ):
        if check_every < 0:
            raise ValueError(f"--check-every is {check_every}: use 0 for none, or the pairs between two checks.")
        self.arms = {"a": str(first), "b": str(second)}
        self.folder, self.seed, self.check_every = folder, seed, check_every
        self.pairs, lacking = find_pairs(first, second, prompts or {})
        if lacking:
            report(f"Left out, because one folder lacks them: {few(lacking)}.")
        self.groups = {name: pair.group for name, pair in self.pairs.items()}
        if (count := len(set(self.groups.values()))) < len(self.pairs):
            report(
                f"{len(self.pairs)} pairs of {count} prompts. Pairs with one prompt count together in the intervals."
            )
        self.secret = secrets.token_bytes(16)
        self.shown: dict[str, Path] = {}
        self.files = {name: _identity(pair.first) + _identity(pair.second) for name, pair in self.pairs.items()}
        self.store = Store(
            folder / "votes.sqlite",
            {
                "first folder": str(first.resolve()),
                "second folder": str(second.resolve()),
                "--seed": seed,
                "--check-every": check_every,
                "videos": digest_of(self.files),
                "prompts": digest_of({name: pair.prompt for name, pair in self.pairs.items()}),
            },
        )
        self._prepare(report)

    def tasks(self, rater: str) -> list[Task]:
        """Return all tasks of a rater, in order."""
        return tasks(list(self.pairs), rater, self.seed, self.check_every)

    def next_task(self, rater: str) -> tuple[Task | None, int, int]:
        """Return (the first unanswered task or None, answered tasks, all tasks)."""
        all_tasks, done = self.tasks(rater), self.store.done(rater)
        left = [task for task in all_tasks if task.key not in done]
        return (left[0] if left else None), len(all_tasks) - len(left), len(all_tasks)

    def task(self, rater: str, key: str) -> Task:
        """Return a task by its key. Raises ValueError if the rater has no such task."""
        for task in self.tasks(rater):
            if task.key == key:
                return task
        raise ValueError(f"{rater} has no task {key!r}: reload the page.")

    def video(self, task: Task, side: str) -> Path:
        """Return the file to show on the "left" or "right" side."""
        arm = task.left if side == "left" else task.right
        if task.kind != "known":
            return self._file(task.name, arm)
        source = self._source(task.name)
        return self._file(task.name, source if arm == "a" else f"spoiled_{source}")

    def task_link(self, rater: str, task: Task, side: str) -> str:
        """Return a link for one side of a task. It differs from task to task, so that repeats are not recognised."""
        return self._link(f"{rater}/{task.key}/{side}", self.video(task, side))

    def examples(self) -> list[dict]:
        """Return a training example for each reason: question, reason, and links to the better and the worse video."""
        name = next(iter(self.pairs))
        return [
            {
                "question": question.text,
                "reason": reason.label,
                "explanation": reason.explanation,
                "better": self._link(f"good {reason.fault}", self._file(name, _example_arm(reason.fault))),
                "worse": self._link(f"example {reason.fault}", self._example(reason.fault)),
            }
            for question in QUESTIONS.values()
            for reason in question.reasons
        ]

    def _link(self, shown_as: str, path: Path) -> str:
        """Return a name for a prepared video that tells nothing about its folder; `shown` leads back to the file."""
        token = hmac.new(self.secret, shown_as.encode(), "sha256").hexdigest()[:32]
        self.shown[token] = path
        return token

    def _prepare(self, report: Callable[[str], None]) -> None:
        for number, (name, pair) in enumerate(self.pairs.items(), 1):
            source = self._source(name)
            files = [self._file(name, which) for which in ("a", "b", f"spoiled_{source}")]
            if not all(file.exists() for file in files):
                both = in_common([read(pair.first), read(pair.second)])
                intact = both[ARMS.index(source)]
                bad = Video(spoiled(intact.frames), intact.fps)
                for file, video in zip(files, (*both, bad), strict=True):
                    write_mp4(file, video)
                report(f"Prepared {number} of {len(self.pairs)}: {name}")
            if number == 1:
                for fault, spoil in FAULTS.items():
                    if not self._example(fault).exists():
                        good = read(self._file(name, _example_arm(fault)))
                        write_mp4(self._example(fault), Video(spoil(good.frames), good.fps))

    def _source(self, name: str) -> Arm:
        """Return the folder whose video an attention check shows. It is random, because raters could learn that the
        better video of a check always looks like one folder's."""
        return random.Random(f"{self.seed}/{name}").choice(ARMS)

    def _file(self, name: str, which: str) -> Path:
        """Return the path of a prepared video. A replaced file is prepared again."""
        return self.folder / "videos" / f"{self._key(name)}_{which}.mp4"

    def _key(self, name: str) -> str:
        return hashlib.sha256(repr((name, self.files[name])).encode()).hexdigest()[:16]

    def _example(self, fault: str) -> Path:
        """Return the path of an example with this fault, made from the first pair."""
        key = self._key(next(iter(self.pairs)))
        return self.folder / "examples" / f"{key}_{_example_arm(fault)}_{fault}.mp4"


def _example_arm(fault: str) -> Arm:
    """Return the folder of an example: in turn, because the intact video is called the better one."""
    return ARMS[list(FAULTS).index(fault) % len(ARMS)]


def find_pairs(first: Path, second: Path, prompts: Mapping[str, str]) -> tuple[dict[str, Pair], list[str]]:
    """Return name -> pair for the names that both folders have, and the names that only one of them has.

    The prompt is that of `prompts`, or the text file with the video's name in the first folder, or the name itself.
    Pairs with one text are of one prompt. Without a text, see `folders.clips_of`.

    Raises:
        ValueError: see `folders.clips_of` and `folders.matched`.
    """
    rows, lacking = matched([*clips_of("first", first, prompts), *clips_of("second", second, prompts)])
    pairs = {}
    for one, other in rows:
        text = one.prompt or _text(one.path)
        pairs[one.name] = Pair(one.path, other.path, text or one.name.replace("_", " "), text or one.group)
    return pairs, lacking


def _text(video: Path) -> str:
    text = video.with_suffix(".txt")
    try:
        return text.read_text("utf-8-sig").strip() if text.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"The prompt {text} cannot be read ({error}): save it as UTF-8.") from None


def _identity(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return path.name, status.st_size, status.st_mtime_ns
