"""Report of the ablations: all tables, from the measured rows alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...evaluation.intervals import FEW_PROMPTS
from .colours import Kept, colour_table, kept_colours
from .data import judged_scenes, shows_unseen
from .measured import Rows, complete_seeds, found_in
from .recipes import HIGH, LOW, Comparison, Scale
from .results import compare, measures_table, win_table

SURVIVAL = "survival.png"


def kept_in(rows: Rows, comparisons: Sequence[Comparison], scale: Scale) -> dict[str, Kept]:
    """Return the survival of mean colours of the arms of (b), {} without (b)."""
    names = [name for each in comparisons if each.ablation == "b" for name in (each.first, each.second)]
    return kept_colours(rows, list(dict.fromkeys(names)), scale) if names else {}


def report(rows: Rows, comparisons: Sequence[Comparison], kept: Mapping[str, Kept], scale: Scale) -> str:
    """Return the tables of comparisons that have a complete training seed as Markdown. kept: of `kept_in`."""
    found = found_in(rows, comparisons, scale)
    unseen = {number for number, scene in enumerate(judged_scenes(scale.prompts)) if shows_unseen(scene)}
    counts = {len(complete_seeds(rows, each.sides, scale)) for each in comparisons}
    parts = [
        f"{scale.prompts} captions, training seeds: {' to '.join(map(str, sorted({min(counts), max(counts)})))}, "
        f"{scale.steps} steps of {scale.batch} clips. Frames have {HIGH} pixels ({LOW} in the low stage). "
        f"{scale.sampling} sampling steps. Win rates of the first arm have 95 % intervals over captions and seeds; a "
        f"tie counts one half. With fewer than {FEW_PROMPTS} captions no difference is resolved.",
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
    if kept:
        parts += [
            "Survival of mean colours in (b): 1 is right, less is drawn towards the mean of the data.",
            colour_table(kept),
            f"![survival of mean colours by frame, measured and predicted]({SURVIVAL})",
        ]
    parts += ["Both arms share the settings after *Equal*. *Caution* says what may mislead the judge."]
    parts += ["\n".join(f"- **{e.key}** Equal: {e.equal}. Caution: {e.fooled_by}." for e in comparisons)]
    return "\n\n".join(parts) + "\n"
