"""Measure the shipped pocket with the shipped graph: a ComfyUI server makes every clip, and a reader recognises its
content.

Writes pocket/evaluate/measured/text_to_video.jsonl and a contact sheet; prints the table of the README. Interrupted
runs continue. A larger --count reuses the clips of a smaller one while graph and weights are unchanged.
"""

import argparse
from pathlib import Path

import numpy as np

from ...evaluation import pictures
from ...evaluation.graph import Graph
from ...evaluation.intervals import mean_text, share_text
from ...evaluation.measure import add_server_option, measure
from ...evaluation.metrics import fidelity
from ...evaluation.results import Results
from ...evaluation.servers import Job, Outputs
from ...evaluation.tables import markdown
from ..shipped import CHECKPOINT, VIDEO_LAYERS
from ..world import reader
from ..world.reader import Reading, read_clip
from ..world.vocabulary import BACKGROUNDS, COLOURS, DIRECTIONS, MOTIONS, OPPOSITES, SHAPES, held_out, spins_visibly

ROOT = Path(__file__).parents[2]
GRAPH = ROOT / "workflows" / "api" / "text_to_video_pocket.json"
RESULT = Path(__file__).parent / "measured" / "text_to_video.jsonl"
FILES = (GRAPH, CHECKPOINT, VIDEO_LAYERS, Path(reader.__file__), Path(fidelity.__file__))
TRAVELS = (*DIRECTIONS, "getting bigger", "getting smaller")


def prompts(seed: int, count: int) -> list[dict]:
    """Return `count` prompts, motions in turn, every other one a held-out combination."""
    rng = np.random.default_rng(seed)
    chosen = []
    while len(chosen) < count:
        motion, unseen = MOTIONS[len(chosen) // 2 % len(MOTIONS)], len(chosen) % 2 == 1
        colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
        ground = rng.choice([b for b in BACKGROUNDS if b != colour])
        if held_out(colour, shape, motion) == unseen and (motion != "spinning" or spins_visibly(shape)):
            text = f"a {colour} {shape} {motion} on a {ground} background"
            chosen.append({"text": text, "colour": colour, "shape": shape, "motion": motion, "unseen": unseen})
    return chosen


def opposite_prompts(seed: int, count: int) -> list[dict]:
    """Return pairs of prompts with the same first frame, a shape in the middle, and opposite motions."""
    rng = np.random.default_rng(seed)
    chosen: list[dict] = []
    for i in range(count // 2):
        motion = TRAVELS[i % len(TRAVELS)]
        colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
        ground = rng.choice([b for b in BACKGROUNDS if b != colour])
        for way in (motion, OPPOSITES[motion]):
            text = f"a {colour} {shape} {way} on a {ground} background"
            still = f"a {colour} {shape} in the middle on a {ground} background"
            chosen.append({"text": text, "image": still, "motion": way, "seed": i})
    return chosen


def graph(prompt: dict, seed: int) -> Graph:
    """Return the demo's graph, changed to save its first frame and its frames as lossless pictures."""
    filled = Graph.load(GRAPH).filled(prompt["text"], prompt.get("image"), prompt.get("seed", seed))
    filled.fetch_frames()
    return filled


def judge(prompt: dict, first: np.ndarray, frames: np.ndarray) -> dict:
    """Return figures of a clip, uint8 [8, h, w, 3]. first: the picture [h, w, 3] that it was made from."""
    reading: Reading = read_clip(frames)
    begin, end = reading.sights[0], reading.sights[-1]
    return {
        "wanted": prompt["motion"],
        "read": reading.motion,
        "unseen": prompt.get("unseen", False),
        "motion": reading.motion == prompt["motion"],
        "colour": reading.majority("colour") == prompt.get("colour"),
        "shape": reading.majority("shape") == prompt.get("shape"),
        "present": reading.present,
        "same": bool(begin and end and begin.shape == end.shape),
        "psnr": fidelity.psnr(frames[:1], first[None]),
        "drift": reading.drift,
    }


def table(rows: list[dict], pairs: list[dict]) -> str:
    """Return the table of the README."""
    travels = [r for r in rows if r["wanted"] in TRAVELS]
    tricks = [r for r in rows if r["wanted"] in ("spinning", "bouncing")]

    def share(rows: list[dict], key: str) -> str:
        return share_text([row[key] for row in rows])

    def mean(key: str) -> str:
        return f"{mean_text(row[key] for row in rows)} (n = {len(rows)})"

    lines = [
        ("colour right", ">= 97 %", share(rows, "colour")),
        ("shape right", ">= 90 %", share(rows, "shape")),
        ("motion right (direction, growth), seen", ">= 95 %", share([r for r in travels if not r["unseen"]], "motion")),
        ("motion right, held-out combinations", ">= 90 %", share([r for r in travels if r["unseen"]], "motion")),
        ("spinning and bouncing right", ">= 80 %", share(tricks, "motion")),
        ("object in all frames", ">= 97 %", share(rows, "present")),
        ("same shape in first and last frame", ">= 90 %", share(rows, "same")),
        ("PSNR of frame 0 to the first frame, dB", ">= 27", mean("psnr")),
        ("drift of the background, of 255", "<= 2", mean("drift")),
    ]
    if pairs:
        lines.append(("opposite captions, same centred first frame", ">= 95 %", share(pairs, "motion")))
    return markdown(("", "target", "measured"), lines)


def keyed(chosen: list[dict], name: str) -> dict[str, dict]:
    return {f"{name} {i}: {prompt['text']}": prompt for i, prompt in enumerate(chosen)}


def main(count: int, pairs: int, seed: int, result: Path, servers: list[str] | None) -> None:
    chosen = keyed(prompts(seed, count), "clip") | keyed(opposite_prompts(seed + 1, pairs), "pair")
    graphs = {key: graph(prompt, i) for i, (key, prompt) in enumerate(chosen.items())}  # pairs have their own seeds

    def judge_outputs(key: str, outputs: Outputs) -> tuple[dict, list[np.ndarray]]:
        first = pictures.decode(outputs[graphs[key].id("First frame")][0])
        frames = pictures.decode_all(outputs["frames"])
        row = judge(chosen[key], first, frames)
        if not row["motion"]:
            print(f"{key} -> {row['read'] or 'nothing'}", flush=True)
        return row, [np.concatenate([first, *frames], 1)]

    jobs = [Job(key, of_prompt.nodes) for key, of_prompt in graphs.items()]
    rows = measure(servers, Results(result, FILES, seed=seed), jobs, judge_outputs)
    print(table(rows[:count], rows[count:]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=96, help="clips of the opposite-captions test")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--result", type=Path, default=RESULT)
    add_server_option(parser)
    main(**vars(parser.parse_args()))
