"""Random damage, reproducible by seed: each case runs in a process of its own with limits of time and memory.

    python -m emu_video.tests.fuzz --minutes 2 --seed 0
    python -m emu_video.tests.fuzz --seed 0 --first 1234 --count 1 --keep /tmp/case

A kind of fuzz is a module of this folder. Its `corpus(folder)` is called once. Its `run(corpus, random, folder)` makes
one case and returns "ok" or "refused", or raises for a fault. Case i of seed S depends on the kind, S and i alone.
"""

from __future__ import annotations

import argparse
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
from pathlib import Path
from types import ModuleType
from typing import Any

from . import api_prompts, files, graph_operations

KINDS: dict[str, ModuleType] = {"files": files, "graphs": graph_operations, "prompts": api_prompts}
SECONDS = 10  # of the processor, for one case; a kind may state its own. A machine that is busy is not a fault
ASLEEP = 120  # seconds after which a case counts as hanging
MEMORY = 3 * 2**30  # bytes of data that one case may have, with those of the interpreter
ORDINARY = ("ok", "refused")


def outcome(kind: str, corpus: Any, seed: int, index: int, folder: Path) -> str:
    """Run one case in a process of its own. Return "ok", "refused", or what went wrong."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        os.write(write_end, _in_child(kind, corpus, f"{kind}:{seed}:{index}", folder).encode()[:60_000])
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        slow = {
            signal.SIGXCPU: f"more than {_seconds(kind)} s of processor time",
            signal.SIGALRM: f"asleep after {ASLEEP} s",
        }
        return slow.get(signal.Signals(number), f"killed by {signal.Signals(number).name}")
    return said or "ended without a word"


def _seconds(kind: str) -> int:
    return getattr(KINDS[kind], "SECONDS", SECONDS)


def _in_child(kind: str, corpus: Any, seed: str, folder: Path) -> str:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_seconds(kind), _seconds(kind) + 1))
    signal.alarm(ASLEEP)
    try:
        return KINDS[kind].run(corpus, random.Random(seed), folder)
    except BaseException:
        return traceback.format_exc()


def fuzz(
    kind: str, seed: int, *, first: int = 0, count: int | None = None, seconds: float = 60, keep: Path | None = None
) -> Counter[str]:
    """Run cases until `count` or `seconds`, print the faults, and return how often each outcome came."""
    counts: Counter[str] = Counter()
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="fuzz") as room:
        corpus = KINDS[kind].corpus(Path(room))
        index = first
        while index < first + count if count is not None else time.monotonic() < end:
            folder = Path(room) / "case"
            folder.mkdir()
            result = outcome(kind, corpus, seed, index, folder)
            counts[result if result in ORDINARY else "faults"] += 1
            if result not in ORDINARY:
                print(f"{kind} --seed {seed} --first {index} --count 1:\n{result}", flush=True)
            if keep and (result not in ORDINARY or count == 1):
                shutil.copytree(folder, keep / f"{kind}-{seed}-{index}", dirs_exist_ok=True)
            shutil.rmtree(folder)
            index += 1
    return counts


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
