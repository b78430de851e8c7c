"""Repeat the five ablations of Emu Video (Table 1) with the pocket: train, make videos, judge, and write tables.

    python run.py ablations --folder runs/ablations

An estimate of the time is printed first. The run can be stopped at any time; the same command continues it. After every
training seed the tables are in DIR/results.md, made from the measured rows in --result. `run.py judge` opens the videos
of two arms, DIR/videos/ARM.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ...launcher.environment import LauncherError
from ...training.checkpoint import DiskFull
from .arms import Lab, train_arm
from .colours import plot
from .measured import check_result, complete_comparisons, measure_videos
from .recipes import ABLATIONS, COMPARISONS, Comparison, Scale, needed, sides
from .report import SURVIVAL, kept_in, report
from .timing import estimate
from .videos import make_videos

FOLDER = Path("runs/ablations")


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="run.py ablations", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    usual = Scale()
    result.add_argument("--folder", type=Path, default=FOLDER, help="of everything that the run makes")
    result.add_argument(
        "--arms", nargs="+", choices=ABLATIONS, default=ABLATIONS, help="which ablations (default: all)"
    )
    result.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the trainings (default: 0 1 2)")
    result.add_argument("--steps", type=int, default=usual.steps, help=f"of each training (default: {usual.steps})")
    result.add_argument("--prompts", type=int, default=usual.prompts, help=f"judged (default: {usual.prompts})")
    result.add_argument(
        "--result", type=Path, help="file of measured rows; other training seeds in it stay (default: in the folder)"
    )
    result.add_argument("--estimate", action="store_true", help="print the time that is left and stop")
    return result


def run(lab: Lab, comparisons: Sequence[Comparison], seeds: Sequence[int], result: Path) -> Path:
    """Train, make videos and judge, one training seed after the other; return the file of tables."""
    made = lab.folder / "results.md"
    for seed in seeds:
        for arm in needed(tuple(comparisons)):
            train_arm(lab, arm, seed)
        for side in sides(comparisons):
            make_videos(lab, side, seed)
        rows = measure_videos(lab, [seed], comparisons, result)
        complete = complete_comparisons(rows, lab.scale)
        kept = kept_in(rows, complete, lab.scale)
        made.write_text(report(rows, complete, kept, lab.scale), "utf-8")
        if kept:
            plot(kept, lab.folder / SURVIVAL)
    return made


def main(argv: Sequence[str]) -> int:
    args = parser().parse_args(argv)
    comparisons = tuple(each for each in COMPARISONS if each.ablation in args.arms)
    seeds = list(dict.fromkeys(args.seeds))
    try:
        lab = Lab(args.folder, Scale(steps=args.steps, prompts=args.prompts))
        left = estimate(lab, needed(comparisons), seeds, comparisons)
        parts = ", ".join(f"{name} {seconds / 3600:.1f} h" for name, seconds in left.items())
        print(f"About {sum(left.values()) / 3600:.1f} hours are left: {parts}.", flush=True)
        if not args.estimate:
            result = args.result or lab.folder / "measured.jsonl"
            if args.result:
                check_result(lab, result)  # those of the folder are measured again
            print(run(lab, comparisons, seeds, result).read_text("utf-8"))
    except (ValueError, OSError, DiskFull) as error:
        raise LauncherError(str(error)) from error
    except KeyboardInterrupt:
        print("\nStopped. The same command continues.")
        return 130
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except LauncherError as failure:
        sys.exit(f"run.py ablations: {failure}")
