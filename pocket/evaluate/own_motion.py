"""Measure temporal layers trained on the clips of `own_motion_clips`, with held-out combinations of colour and shape.

A ComfyUI server makes every clip with the shipped graph and the given layers, and a reader recognises the motion.
Without --layers, the shipped layers are measured, which is the state before training. --motion known measures the
motions that the shipped layers know, which training a new motion may harm.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ...evaluation import pictures
from ...evaluation.graph import Graph
from ...evaluation.intervals import share_text
from ...evaluation.measure import add_server_option, measure
from ...evaluation.results import Results
from ...evaluation.servers import Job, Outputs
from ..shipped import VIDEO_LAYERS
from ..world.reader import Sight, read_clip
from . import text_to_video
from .own_motion_clips import DIAGONALS, MOTIONS, prompts
from .text_to_video import FILES, graph

LEAST_TURN = 270.0  # degrees round the centre
SPREAD = 0.3  # of the mean distance from the centre
LEAST_STEP = 0.06  # of the frame, along each axis
SEED = 11
KNOWN = "known"


def orbit(sights: list[Sight | None]) -> tuple[float, float]:
    """Return the angle in degrees through which a shape moves around the centre of its path, and the path's deviation.

    The centre is that of the best circle (least squares, Kasa's method). The deviation is the largest difference from
    the mean distance to the centre, relative to it. A shape that stands still, or is in fewer than 4 frames, turns by 0
    degrees with a deviation of 1.
    """
    places = np.array([(sight.x, sight.y) for sight in sights if sight])
    if len(places) < 4 or np.ptp(places, 0).max() < LEAST_STEP:
        return 0.0, 1.0
    equations = np.column_stack([2 * places, np.ones(len(places))])
    (x, y, _), *_ = np.linalg.lstsq(equations, (places**2).sum(1), rcond=None)
    away = places - (x, y)
    distances = np.hypot(*away.T)
    turns = np.diff(np.unwrap(np.arctan2(away[:, 1], away[:, 0])))
    return float(np.degrees(abs(turns.sum()))), float(np.abs(distances / distances.mean() - 1).max())


def diagonal(sights: list[Sight | None], way: str) -> bool:
    """Return whether a shape moves in the right direction along both axes."""
    seen = [sight for sight in sights if sight]
    if len(seen) < 2:
        return False
    net = seen[-1].x - seen[0].x, seen[-1].y - seen[0].y
    return all(sign * moved > LEAST_STEP for sign, moved in zip(DIAGONALS[way], net, strict=True))


def judge(prompt: dict, frames: np.ndarray) -> dict:
    """Return whether a clip, uint8 [T, h, w, 3], shows the trained motion, and colour and shape of the prompt."""
    reading = read_clip(frames)
    right = {
        "colour": reading.majority("colour") == prompt["colour"],
        "shape": reading.majority("shape") == prompt["shape"],
        "present": reading.present,
    }
    if prompt["way"]:
        return right | {"motion": diagonal(reading.sights, prompt["way"])}
    turned, spread = orbit(reading.sights)
    return right | {"motion": turned >= LEAST_TURN and spread <= SPREAD, "turned": turned, "spread": spread}


def with_layers(prompt: dict, seed: int, layers: str) -> Graph:
    """Return the shipped graph with other temporal layers: a file of the server's models/temporal_layers."""
    made = graph(prompt, seed)
    made.set_everywhere(temporal_layers=layers)
    return made


def main(motion: str, layers: str, count: int, result: Path, servers: list[str] | None) -> None:
    listed = text_to_video.prompts(SEED, count) if motion == KNOWN else prompts(motion, count, SEED)
    chosen = {f"{motion} {number}: {prompt['text']}": prompt for number, prompt in enumerate(listed)}
    graphs = {key: with_layers(prompt, seed, layers) for seed, (key, prompt) in enumerate(chosen.items())}

    def judge_outputs(key: str, outputs: Outputs) -> tuple[dict, list[np.ndarray]]:
        frames = pictures.decode_all(outputs["frames"])
        row = text_to_video.judge(chosen[key], frames[0], frames) if motion == KNOWN else judge(chosen[key], frames)
        return row, [np.concatenate(list(frames), 1)]

    jobs = [Job(key, of_prompt.nodes) for key, of_prompt in graphs.items()]
    rows = measure(servers, Results(result, (*FILES, Path(__file__)), layers=layers), jobs, judge_outputs)
    for name in ("motion", "colour", "shape", "present"):
        print(f"{name}: {share_text([row[name] for row in rows])}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--motion", choices=(*MOTIONS, KNOWN), default="orbits")
    parser.add_argument("--layers", default=VIDEO_LAYERS.name, help="file of models/temporal_layers")
    parser.add_argument("--count", type=int, default=96)
    parser.add_argument("--result", type=Path, help="default: own_motion_MOTION_LAYERS.jsonl")
    add_server_option(parser)
    given = parser.parse_args()
    file = given.result or Path(f"own_motion_{given.motion}_{Path(given.layers).stem}.jsonl")
    main(given.motion, given.layers, given.count, file, given.servers)
