"""Measure the videos of the arms: one row for each, in one file from which all tables are made."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from ...evaluation import videos
from ...evaluation.results import Results, digest, read_lines
from ...evaluation.videos import read
from ..evaluate import caption, judge, reasons, watched
from ..evaluate.caption import read_caption
from ..evaluate.judge import Measured, measured
from ..world import background, reader, render, roundness, vocabulary
from .arms import Lab
from .data import judged_scenes, light_of, training_scenes
from .recipes import ARMS, COMPARISONS, HIGH, Comparison, Scale, Side, sides
from .survival import predicted_survival
from .videos import video_path

READERS = (judge, reasons, watched, caption, reader, background, roundness, render, vocabulary, videos)
SCORERS = tuple(Path(str(module.__file__)) for module in READERS)
VIDEO, COLOURS = "video", "colours"  # of a row: digest of the file, and mean colour of each frame
PREDICTED = "predicted survival"  # key of a row: by image model, see `predicted_survival`

Rows = Mapping[str, dict]
"""One row for each video, by `key_of_video`."""
Found = Mapping[tuple[Side, int, int], Measured]
"""(side, prompt, training seed) -> measured reasons of a video."""


def key_of_video(side: Side, prompt: int, seed: int) -> str:
    return f"{side.folder} {prompt} {seed}"


def check_result(lab: Lab, result: Path) -> None:
    """Raise ValueError if rows of other settings, or of another reader, are in the file and would be replaced."""
    if read_lines(result) and not Results(result, SCORERS, **lab.identity).rows:
        raise ValueError(
            f"{result} holds rows of other settings, of another pocket or of another reader. Choose another --result, "
            "or move that file away."
        )


def measure_videos(lab: Lab, seeds: Sequence[int], comparisons: Sequence[Comparison], result: Path) -> Rows:
    """Measure the compared videos of these training seeds, and return all rows of the file `result`.

    A row is kept while its video is the same. Rows of other training seeds and comparisons are kept as well, so that
    seeds can be trained on several machines.
    """
    results = Results(result, SCORERS, **lab.identity)
    if PREDICTED not in results:
        latents = lab.encoded[HIGH].latents.float().numpy()
        light = np.array([light_of(scene) for scene in training_scenes(lab.scale.clips)])
        bases = {arm.base.name: arm.base for arm in ARMS.values()}
        found = {name: predicted_survival(base, latents, light).round(4).tolist() for name, base in bases.items()}
        results.add(PREDICTED, found)
    scenes = judged_scenes(lab.scale.prompts)
    for side in sides(comparisons):
        for seed in seeds:
            for prompt, scene in enumerate(scenes):
                path, key = video_path(lab, side, prompt, seed), key_of_video(side, prompt, seed)
                made = digest(path)[:16]
                if results.rows.get(key, {}).get(VIDEO) != made:
                    frames = read(path).frames
                    values = measured(frames, read_caption(scene.caption))
                    values = {each: None if math.isnan(v) else v for each, v in values.items()}
                    results.add(key, {VIDEO: made, **values, COLOURS: frames.mean((1, 2)).round(2).tolist()})
    return results.rows


def complete_seeds(rows: Rows, made: Collection[Side], scale: Scale) -> list[int]:
    """Return the training seeds of which all videos of some sides are measured."""
    seeds = sorted({int(key.split()[-1]) for key, row in rows.items() if VIDEO in row})
    prompts = range(scale.prompts)
    return [seed for seed in seeds if all(key_of_video(side, p, seed) in rows for side in made for p in prompts)]


def complete_comparisons(rows: Rows, scale: Scale) -> tuple[Comparison, ...]:
    """Return the comparisons that have at least one complete training seed."""
    return tuple(each for each in COMPARISONS if complete_seeds(rows, each.sides, scale))


def found_in(rows: Rows, comparisons: Sequence[Comparison], scale: Scale) -> Found:
    """Return the measured reasons of the videos of some comparisons, from all their complete training seeds."""
    found = {}
    for each in comparisons:
        for seed in complete_seeds(rows, each.sides, scale):
            for side in each.sides:
                for prompt in range(scale.prompts):
                    row = rows[key_of_video(side, prompt, seed)]
                    values = {k: math.nan if v is None else v for k, v in row.items() if k not in (VIDEO, COLOURS)}
                    found[side, prompt, seed] = values
    return found


def mean_colours(rows: Rows, side: Side, scale: Scale) -> np.ndarray:
    """Return the mean colour of each frame of one arm's videos, [complete seeds, prompts, T, 3] in 0..255."""
    prompts, seeds = range(scale.prompts), complete_seeds(rows, (side,), scale)
    return np.array([[rows[key_of_video(side, prompt, seed)][COLOURS] for prompt in prompts] for seed in seeds])
