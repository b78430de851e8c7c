"""Repeat the five ablations of Emu Video (Table 1) with the pocket: train, make videos, judge, and write tables.

    python run.py ablations --folder runs/ablations

An estimate of the time is printed first. The run can be stopped at any time; the same command continues it. The tables
are in DIR/results.md after every training seed. `run.py judge` opens the videos of two arms, DIR/videos/ARM.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ...evaluation.intervals import FEW_PROMPTS
from ...launcher.environment import LauncherError
from ...training.checkpoint import DiskFull
from .arms import Lab, train_arm
from .colours import colour_table, kept_colours, plot
from .data import judged_scenes, shows_unseen
from .recipes import ABLATIONS, COMPARISONS, HIGH, LOW, Comparison, Scale, needed, sides
from .results import compare, measure_videos, measures_table, win_table
from .timing import estimate
from .videos import make_videos

FOLDER = Path("runs/ablations")
SURVIVAL = "survival.png"


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
    result.add_argument("--estimate", action="store_true", help="print the time that is left and stop")
    return result


def run(lab: Lab, comparisons: Sequence[Comparison], seeds: Sequence[int]) -> Path:
    """Train, make videos and judge, one training seed after the other; return the file of tables."""
    arms = needed(tuple(comparisons))
    result = lab.folder / "results.md"
    for number, seed in enumerate(seeds, 1):
        for arm in arms:
            train_arm(lab, arm, seed)
        for side in sides(comparisons):
            make_videos(lab, side, seed)
        result.write_text(tables(lab, comparisons, seeds[:number]), "utf-8")
    return result


def tables(lab: Lab, comparisons: Sequence[Comparison], seeds: Sequence[int]) -> str:
    """Return all results as Markdown."""
    found = measure_videos(lab, seeds, comparisons)
    scale = lab.scale
    unseen = {number for number, scene in enumerate(judged_scenes(scale.prompts)) if shows_unseen(scene)}
    parts = [
        f"{scale.prompts} captions, {len(seeds)} training seeds, {scale.steps} steps of {scale.batch} clips. Frames "
        f"have {HIGH} pixels ({LOW} in the low stage). {scale.sampling} sampling steps. Win rates of the first arm "
        "have 95 % intervals over captions and seeds; a tie counts one half. With fewer than "
        f"{FEW_PROMPTS} captions no difference is resolved.",
        win_table({each.key: compare(found, each) for each in comparisons}),
    ]
    retention = [each for each in comparisons if each.own_frames]
    if retention and unseen:
        rare = {key: values for key, values in found.items() if key[1] in unseen}
        parts += [
            f"Retention: win rates of the {len(unseen)} captions with a shape or colour that the image model knows and "
            "that no training video shows. It is the primary measure of (a) and (e2).",
            win_table({each.key: compare(rare, each) for each in retention}),
        ]
    parts += [
        "Measured reasons, mean and 95 % interval over captions and seeds. Higher is better; sharpness and smoothness "
        "are in thousandths of the frame, consistency in steps of 255. Unseen: only the captions of retention.",
        measures_table(found, unseen),
    ]
    if schedules := [name for each in comparisons if each.ablation == "b" for name in (each.first, each.second)]:
        kept = kept_colours(lab, seeds, list(dict.fromkeys(schedules)))
        plot(kept, lab.folder / SURVIVAL)
        parts += [
            "Survival of mean colours in (b): 1 is right, less is drawn towards the mean of the data.",
            colour_table(kept),
            f"![survival of mean colours by frame, measured and predicted]({SURVIVAL})",
        ]
    parts += ["What is equal, and what would fool the judge:"]
    parts += ["\n".join(f"- **{e.key}** Equal: {e.equal}. Caution: {e.fooled_by}." for e in comparisons)]
    return "\n\n".join(parts) + "\n"


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
            print(run(lab, comparisons, seeds).read_text("utf-8"))
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
