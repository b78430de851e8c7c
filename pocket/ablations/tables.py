"""All tables of the ablations, from the measured rows alone."""

from __future__ import annotations

from pathlib import Path

from ...evaluation.intervals import FEW_PROMPTS
from ...evaluation.results import read_lines, read_rows
from .colours import Kept, colour_table, kept_colours
from .data import judged_scenes, shows_unseen
from .measured import Rows, complete_comparisons, complete_seeds, found_in
from .recipes import HIGH, LOW, Comparison, Scale
from .results import compare, measures_table, win_table

ABOUT, WINS, RETENTION, REASONS, COLOURS = (
    f"ablations {name}" for name in ("about", "wins", "retention", "reasons", "colours")
)
SURVIVAL = "survival.png"


def tables(result: Path) -> dict[str, str]:
    """Return the tables of a file of measured rows by name. Those without a complete training seed are left out."""
    rows, scale = read_rows(result), scale_of(result)
    comparisons = complete_comparisons(rows, scale)
    if not comparisons:
        return {}
    found = found_in(rows, comparisons, scale)
    unseen = {number for number, scene in enumerate(judged_scenes(scale.prompts)) if shows_unseen(scene)}
    made = {
        ABOUT: about(rows, comparisons, scale),
        WINS: win_table({each.key: compare(found, each) for each in comparisons}),
    }
    retention = [each for each in comparisons if each.own_frames]
    if retention and unseen:
        rare = {key: values for key, values in found.items() if key[1] in unseen}
        made[RETENTION] = win_table({each.key: compare(rare, each) for each in retention})
    made[REASONS] = measures_table(found, unseen)
    if kept := kept_in(rows, comparisons, scale):
        made[COLOURS] = colour_table(kept)
    return made


def scale_of(result: Path) -> Scale:
    return Scale(**read_lines(result)[0]["made_by"]["scale"])


def kept_in(rows: Rows, comparisons: tuple[Comparison, ...], scale: Scale) -> dict[str, Kept]:
    """Return the survival of mean colours of the arms of (b)."""
    names = [name for each in comparisons if each.ablation == "b" for name in (each.first, each.second)]
    return kept_colours(rows, list(dict.fromkeys(names)), scale)


def about(rows: Rows, comparisons: tuple[Comparison, ...], scale: Scale) -> str:
    """Return the size of the run in words."""
    seeds = {len(complete_seeds(rows, each.sides, scale)) for each in comparisons}
    count = f"{min(seeds)}" if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    return (
        f"{scale.prompts} captions, training seeds: {count}, {scale.steps} steps of {scale.batch} clips. Frames "
        f"have {HIGH} pixels ({LOW} in the low stage). {scale.sampling} sampling steps. Win rates of the first arm "
        "have 95 % intervals over captions and seeds; a tie counts one half. With fewer than "
        f"{FEW_PROMPTS} captions no difference is resolved."
    )


def report(result: Path, survival: str = SURVIVAL) -> str:
    """Return all tables with their titles as Markdown. survival: the picture of `colours.plot`."""
    made = tables(result)
    comparisons = complete_comparisons(read_rows(result), scale_of(result))
    parts = [made.get(ABOUT, "No training seed is complete."), made.get(WINS, "")]
    if RETENTION in made:
        parts += [
            "Retention: win rates of the captions with a shape or colour that the image model knows and that no "
            "training video shows. It is the primary measure of (a) and (e2).",
            made[RETENTION],
        ]
    parts += [
        "Measured reasons, mean and 95 % interval over captions and seeds. Higher is better; sharpness and smoothness "
        "are in thousandths of the frame, consistency in steps of 255. Unseen: only the captions of retention.",
        made.get(REASONS, ""),
    ]
    if COLOURS in made:
        parts += [
            "Survival of mean colours in (b): 1 is right, less is drawn towards the mean of the data.",
            made[COLOURS],
            f"![survival of mean colours by frame, measured and predicted]({survival})",
        ]
    parts += ["What is equal, and what would fool the judge:"]
    parts += ["\n".join(f"- **{e.key}** Equal: {e.equal}. Caution: {e.fooled_by}." for e in comparisons)]
    return "\n\n".join(filter(None, parts)) + "\n"
