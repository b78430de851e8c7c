"""Random damage, reproducible by seed: cases run in processes of their own, with limits of time and memory for each.

    python -m emu_video.tests.fuzz --minutes 2 --seed 0
    python -m emu_video.tests.fuzz --kind files --seed 0 --first 1234 --count 1 --keep /tmp/case

A kind of fuzz is a module of this folder. Its `corpus(folder)` is called once. Its `run(corpus, random, folder)` makes
one case and returns "ok" or "refused", or raises for a fault. Case i of seed S depends on the kind, S and i alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from . import api_prompts, files, graph_operations

KINDS: dict[str, ModuleType] = {"files": files, "graphs": graph_operations, "prompts": api_prompts}
SECONDS = 10  # of the processor, for one case; a kind may state its own. A machine that is busy is not a fault
ASLEEP = 900  # seconds after which a case counts as hanging, also on a busy machine
MEMORY = 2**30  # bytes of data that one case may allocate; a kind may state its own
BATCH = 100  # cases of one process, which ends at a fault
PROGRESS = 1000  # cases between two lines of progress
ORDINARY = ("ok", "refused")
SHARED_MEMORY = Path("/dev/shm")


class Cases(NamedTuple):
    """Cases of one kind and seed, and a folder for their files."""

    kind: str
    seed: int
    corpus: Any
    folder: Path

    @property
    def seconds(self) -> int:
        return getattr(KINDS[self.kind], "SECONDS", SECONDS)

    @property
    def memory(self) -> int:
        return getattr(KINDS[self.kind], "MEMORY", MEMORY)

    def outcomes(self, indices: range, end: float = float("inf")) -> list[str]:
        """Run cases in one process until a fault or the time `end`. Return "ok", "refused", or what went wrong."""
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read_end)
            with os.fdopen(write_end, "w") as pipe:
                for result in self._in_child(indices, end):
                    print(json.dumps(result[:60_000]), file=pipe, flush=True)
            os._exit(0)
        os.close(write_end)
        with os.fdopen(read_end) as pipe:
            results = [json.loads(line) for line in pipe]
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            number = signal.Signals(os.WTERMSIG(status))
            slow = {
                signal.SIGXCPU: f"more than {self.seconds} s of processor time",
                signal.SIGALRM: f"asleep after {ASLEEP} s",
            }
            results.append(slow.get(number, f"killed by {number.name}"))
        elif status:
            results.append(f"ended with {status}")
        return results

    def _in_child(self, indices: range, end: float) -> Iterator[str]:
        for index in indices:
            if time.monotonic() >= end:
                return
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir()
            _limit(self.seconds, self.memory)
            try:
                seed = f"{self.kind}:{self.seed}:{index}"
                result = KINDS[self.kind].run(self.corpus, random.Random(seed), self.folder)
            except BaseException:
                result = traceback.format_exc()
            yield result
            if result not in ORDINARY:
                return

    def command(self, first: int, count: int) -> str:
        return f"--kind {self.kind} --seed {self.seed} --first {first} --count {count}"


def _limit(seconds: int, memory: int) -> None:
    """Limit what this process uses from now on."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    resource.setrlimit(resource.RLIMIT_DATA, (pages * resource.getpagesize() + memory, resource.RLIM_INFINITY))
    signal.alarm(ASLEEP)


def fuzz(
    kind: str, seed: int, *, first: int = 0, count: int | None = None, seconds: float = 60, keep: Path | None = None
) -> Counter[str]:
    """Run cases until `count` or `seconds`, print the faults, and return how often each outcome came."""
    counts: Counter[str] = Counter()
    end = time.monotonic() + seconds if count is None else float("inf")
    with tempfile.TemporaryDirectory(prefix="fuzz", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None) as room:
        cases = Cases(kind, seed, KINDS[kind].corpus(Path(room)), Path(room) / "case")
        while time.monotonic() < end and (count is None or counts.total() < count):
            index = first + counts.total()
            size = BATCH if count is None else min(BATCH, count - counts.total())
            results = cases.outcomes(range(index, index + size), end)
            progress = counts.total() // PROGRESS
            counts.update(result if result in ORDINARY else "faults" for result in results)
            if results and results[-1] not in ORDINARY:
                _report(cases, index, len(results), results[-1], keep)
            elif keep and count == 1:
                shutil.copytree(cases.folder, keep / f"{kind}-{seed}-{index}", dirs_exist_ok=True)
            if counts.total() // PROGRESS > progress:
                print(f"{kind}, seed {seed}: {counts.total()} cases, {counts['faults']} faults so far", flush=True)
    return counts


def _report(cases: Cases, first: int, count: int, fault: str, keep: Path | None) -> None:
    """Print a fault and the shortest command that repeats it: the case alone, or those of its process up to it."""
    index = first + count - 1
    if keep:
        shutil.copytree(cases.folder, keep / f"{cases.kind}-{cases.seed}-{index}", dirs_exist_ok=True)
    comes_alone = count == 1 or cases.outcomes(range(index, index + 1))[-1] not in ORDINARY
    command = cases.command(index, 1) if comes_alone else cases.command(first, count)
    print(f"{command}:\n{fault}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=list(KINDS), help="one kind of fuzz alone; all share the minutes otherwise")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--count", type=int, help="number of cases, in place of minutes")
    parser.add_argument("--keep", type=Path, help="where to copy the files of cases with a fault")
    args = parser.parse_args()
    kinds = [args.kind] if args.kind else list(KINDS)
    faults = 0
    for kind in kinds:
        seconds = 60 * args.minutes / len(kinds)
        counts = fuzz(kind, args.seed, first=args.first, count=args.count, seconds=seconds, keep=args.keep)
        faults += counts["faults"]
        outcomes = ", ".join(f"{counts[name]} {name}" for name in (*ORDINARY, "faults"))
        print(f"{kind}, seed {args.seed}: {counts.total()} cases, {outcomes}", flush=True)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
