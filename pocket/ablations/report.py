"""Report of the ablations: all tables, from the measured rows alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...evaluation.intervals import FEW_PROMPTS
from .colours import Kept, colour_table, kept_colours
from .data import judged_scenes, light_of, shows_unseen
from .measured import Rows, found_in
from .recipes import HIGH, LOW, Comparison, Scale
from .results import FEW_SEEDS, compare, measures_table, win_table

SURVIVAL = "survival.png"
TEXTS = {
    "ablations": "Win rates of the first arm have 95 % intervals over captions and training seeds; a tie counts one "
    f"half. With fewer than {FEW_PROMPTS} captions or {FEW_SEEDS} training seeds no difference is resolved.",
    "ablations unseen": "Retention: win rates of the captions with a shape or colour that the image model knows and "
    "that no training video shows. It is the primary measure of (a) and (e2).",
    "ablations light": "Win rates of the captions whose light changes.",
    "ablations measures": "Measured reasons, mean and 95 % interval over captions and seeds. Higher is better; "
    "sharpness and smoothness are in thousandths of the frame, consistency in steps of 255. Unseen: only the captions "
    "of retention.",
    "ablations survival": "Survival of mean colours in (b), its primary measure: 1 is right, less is drawn towards the "
    "mean of the data.",
}
"""Introduction of each table, by its name."""


def kept_in(rows: Rows, comparisons: Sequence[Comparison], scale: Scale) -> dict[str, Kept]:
    """Return the survival of mean colours of the arms of (b), {} without (b)."""
    names = [name for each in comparisons if each.ablation == "b" for name in (each.first, each.second)]
    return kept_colours(rows, list(dict.fromkeys(names)), scale) if names else {}


def tables(rows: Rows, comparisons: Sequence[Comparison], kept: Mapping[str, Kept], scale: Scale) -> dict[str, str]:
    """Return the tables of comparisons that have a complete training seed, by name. kept: of `kept_in`."""
    found, scenes = found_in(rows, comparisons, scale), judged_scenes(scale.prompts)
    unseen = {number for number, scene in enumerate(scenes) if shows_unseen(scene)}
    changing = {number for number, scene in enumerate(scenes) if light_of(scene)}
    parts = (
        ("ablations", set(range(scale.prompts)), list(comparisons)),
        ("ablations unseen", unseen, [each for each in comparisons if each.own_frames]),
        ("ablations light", changing, [each for each in comparisons if each.ablation == "b"]),
    )
    made = {}
    for name, prompts, chosen in parts:
        if prompts and chosen:
            some = {key: values for key, values in found.items() if key[1] in prompts}
            made[name] = win_table({each.key: compare(some, each) for each in chosen})
    made["ablations measures"] = measures_table(found, unseen)
    if kept:
        made["ablations survival"] = colour_table(kept)
    return made


def report(rows: Rows, comparisons: Sequence[Comparison], kept: Mapping[str, Kept], scale: Scale) -> str:
    """Return the tables and their introductions as Markdown."""
    parts = [
        f"{scale.prompts} captions, {scale.steps} steps of {scale.batch} clips. Frames have {HIGH} pixels "
        f"({LOW} in the low stage). {scale.sampling} sampling steps."
    ]
    for name, table in tables(rows, comparisons, kept, scale).items():
        parts += [TEXTS[name], table]
    if kept:
        parts.append(f"![survival of mean colours by frame, measured and predicted]({SURVIVAL})")
    parts += ["Both arms share the settings after *Equal*. *Caution* says what may mislead the judge."]
    parts += ["\n".join(f"- **{e.key}** Equal: {e.equal}. Caution: {e.fooled_by}." for e in comparisons)]
    return "\n\n".join(parts) + "\n"
