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
from ...evaluation.intervals import finite, mean_text, share_text
from ...evaluation.measure import add_server_option, measure
from ...evaluation.metrics import fidelity
from ...evaluation.results import Results
from ...evaluation.servers import Job, Outputs
from ...evaluation.tables import markdown
from ..shipped import CHECKPOINT, VIDEO_LAYERS
from ..world import background, reader
from ..world import roundness as shapes
from ..world.background import EVEN, light_change, spread
from ..world.reader import Reading, read_clip
from ..world.roundness import shape_error
from ..world.vocabulary import BACKGROUNDS, COLOURS, DIRECTIONS, MOTIONS, OPPOSITES, SHAPES, held_out, spins_visibly

ROOT = Path(__file__).parents[2]
GRAPH = ROOT / "workflows" / "api" / "text_to_video_pocket.json"
RESULT = Path(__file__).parent / "measured" / "text_to_video.jsonl"
SCORERS = map(Path, (reader.__file__, background.__file__, shapes.__file__, fidelity.__file__))
FILES = (GRAPH, CHECKPOINT, VIDEO_LAYERS, *SCORERS)
TRAVELS = (*DIRECTIONS, "getting bigger", "getting smaller")
PAIRED = ("still", "spinning", "getting bigger", "getting smaller", "moving up", "moving down")
LIGHTS = ("getting darker", "getting brighter")


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


def two_shape_prompts(seed: int, count: int) -> list[dict]:
    """Return prompts of two shapes whose colours, shapes and motions differ, in the words that people type."""
    rng = np.random.default_rng(seed)
    chosen: list[dict] = []
    while len(chosen) < count:
        colours, shapes, motions = (
            [str(word) for word in rng.choice(words, 2, replace=False)] for words in (list(COLOURS), SHAPES, PAIRED)
        )
        bodies = [
            {"colour": colour, "shape": shape, "motion": motion}
            for colour, shape, motion in zip(colours, shapes, motions, strict=True)
        ]
        if any(body["motion"] == "spinning" and not spins_visibly(body["shape"]) for body in bodies):
            continue
        parts = [f"a {body['colour']} {body['shape']} {body['motion']}".removesuffix(" still") for body in bodies]
        ground = rng.choice([b for b in BACKGROUNDS if b not in colours])
        chosen.append({"text": f"{' and '.join(parts)} on a {ground} background", "bodies": bodies})
    return chosen


def light_prompts(seed: int, count: int) -> list[dict]:
    """Return prompts of one moving shape whose light changes. The background is not black, whose light is unseen."""
    grounds = [b for b in BACKGROUNDS if b != "black"]
    chosen = []
    for i, prompt in enumerate(prompts(seed, 2 * count)[::2]):
        ground, light = grounds[i % len(grounds)], LIGHTS[i % len(LIGHTS)]
        if ground == prompt["colour"]:
            ground = grounds[(i + 1) % len(grounds)]
        text = f"a {prompt['colour']} {prompt['shape']} {prompt['motion']} on a {ground} background {light}"
        chosen.append(prompt | {"text": text, "light": light})
    return chosen


def graph(prompt: dict, seed: int) -> Graph:
    """Return the demo's graph, changed to save its first frame and its frames as lossless pictures."""
    filled = Graph.load(GRAPH).filled(prompt["text"], prompt.get("image"), prompt.get("seed", seed))
    filled.fetch_frames()
    return filled


def judge(prompt: dict, first: np.ndarray, frames: np.ndarray) -> dict:
    """Return figures of a clip, uint8 [8, h, w, 3]. first: the picture [h, w, 3] that it was made from."""
    if "bodies" in prompt:
        return {"both": all(is_right(read_clip(frames, body["colour"]), body) for body in prompt["bodies"])}
    if "light" in prompt:
        return judge_light(prompt, frames)
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
        "roundness": roundness(frames, reading),
    }


def is_right(reading: Reading, body: dict) -> bool:
    """Return whether a shape of this colour is in all frames, with the right shape and motion."""
    return reading.present and (reading.majority("shape"), reading.motion) == (body["shape"], body["motion"])


def judge_light(prompt: dict, frames: np.ndarray) -> dict:
    """Return whether the light changes as asked, and the largest spread of the background, of 255."""
    return {"light": light_change(frames) == prompt["light"], "spread": max(map(spread, frames))}


def roundness(frames: np.ndarray, reading: Reading) -> float | None:
    """Return the median of the frames' distance from the ideal shape, as `shape_error`."""
    shape = reading.majority("shape")
    errors = [shape_error(frame, (shape,)) for frame, sight in zip(frames, reading.sights, strict=True) if sight]
    return float(np.median(errors)) if errors else None


def table(rows: dict[str, dict]) -> str:
    """Return the table of the README. Rows of a kind that was not measured are left out."""
    kinds = {kind: [row for key, row in rows.items() if key.startswith(kind)] for kind in KINDS}
    return markdown(("", "target", "measured"), [*clip_lines(kinds["clip"]), *scene_lines(kinds)])


def clip_lines(rows: list[dict]) -> list[tuple[str, str, str]]:
    """Return the lines of clips of one shape."""
    travels = [r for r in rows if r["wanted"] in TRAVELS]
    tricks = [r for r in rows if r["wanted"] in ("spinning", "bouncing")]

    def share(rows: list[dict], key: str) -> str:
        return share_text([row[key] for row in rows])

    def mean(key: str) -> str:
        return f"{mean_text(row[key] for row in rows)} (n = {len(rows)})"

    errors = finite(row.get("roundness") for row in rows)
    lines = [
        ("colour right", ">= 99 %", share(rows, "colour")),
        ("shape right", ">= 98 %", share(rows, "shape")),
        ("motion right (direction, growth), seen", ">= 97 %", share([r for r in travels if not r["unseen"]], "motion")),
        ("motion right, held-out combinations", ">= 95 %", share([r for r in travels if r["unseen"]], "motion")),
        ("spinning and bouncing right", ">= 95 %", share(tricks, "motion")),
        ("object in all frames", ">= 99 %", share(rows, "present")),
        ("same shape in first and last frame", ">= 97 %", share(rows, "same")),
        ("PSNR of frame 0 to the first frame, dB", ">= 34", mean("psnr")),
        ("drift of the background, of 255", "<= 1.5", mean("drift")),
    ]
    if len(errors):
        median = f"{np.median(errors):.1%} (n = {len(errors)})"
        lines.append(("distance from the ideal shape, median", "<= 3.5 %", median))
    return lines


def scene_lines(kinds: dict[str, list[dict]]) -> list[tuple[str, str, str]]:
    """Return the lines of opposite captions, two shapes and changing light."""
    flags = {
        "pair": ("opposite captions, same centred first frame", ">= 95 %", lambda row: row["motion"]),
        "two": ("two shapes, both right in colour, shape and motion", ">= 85 %", lambda row: row["both"]),
        "light": (
            "light changes as asked, background without blotches",
            ">= 95 %",
            lambda row: row["light"] and row["spread"] <= EVEN,
        ),
    }
    return [
        (name, target, share_text([flag(row) for row in kinds[kind]]))
        for kind, (name, target, flag) in flags.items()
        if kinds[kind]
    ]


KINDS = {"clip": prompts, "pair": opposite_prompts, "two": two_shape_prompts, "light": light_prompts}
"""First word of a clip's key -> function of (seed, count) that returns its prompts."""


def keyed(chosen: list[dict], name: str) -> dict[str, dict]:
    return {f"{name} {i}: {prompt['text']}": prompt for i, prompt in enumerate(chosen)}


def main(counts: dict[str, int], seed: int, result: Path, servers: list[str] | None) -> None:
    chosen: dict[str, dict] = {}
    for number, (kind, make) in enumerate(KINDS.items()):
        chosen |= keyed(make(seed + number, counts[kind]), kind)
    graphs = {key: graph(prompt, i) for i, (key, prompt) in enumerate(chosen.items())}  # pairs have their own seeds

    def judge_outputs(key: str, outputs: Outputs) -> tuple[dict, list[np.ndarray]]:
        first = pictures.decode(outputs[graphs[key].id("First frame")][0])
        frames = pictures.decode_all(outputs["frames"])
        row = judge(chosen[key], first, frames)
        if not row.get("motion", True):
            print(f"{key} -> {row['read'] or 'nothing'}", flush=True)
        return row, [np.concatenate([first, *frames], 1)]

    jobs = [Job(key, of_prompt.nodes) for key, of_prompt in graphs.items()]
    rows = measure(servers, Results(result, FILES, seed=seed), jobs, judge_outputs)
    print(table(dict(zip(chosen, rows, strict=True))))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=96, help="clips of the opposite-captions test")
    parser.add_argument("--two", type=int, default=64, help="clips of two shapes")
    parser.add_argument("--light", type=int, default=64, help="clips whose light changes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--result", type=Path, default=RESULT)
    add_server_option(parser)
    options = parser.parse_args()
    counts = {"clip": options.count, "pair": options.pairs, "two": options.two, "light": options.light}
    main(counts, options.seed, options.result, options.servers)
