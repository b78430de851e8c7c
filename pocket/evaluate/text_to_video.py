"""Measures the shipped pocket through the shipped graph: every clip is made by a ComfyUI server, then read back.

Writes pocket/evaluate/measured/text_to_video.json and a contact sheet; prints the table of the README. Interrupted runs
go on where they were,
and a larger --count begins with the clips of a smaller one, while the graph and the weights stay the same.
"""

import argparse
import asyncio
import json
import math
from pathlib import Path

import cv2
import numpy as np

from ...evaluation.results import load_rows, save_rows
from ...launcher import client, comfyui, server
from ..shipped import CHECKPOINT, VIDEO_LAYERS
from ..world import reader
from ..world.reader import Reading, read_clip
from ..world.vocabulary import BACKGROUNDS, COLOURS, DIRECTIONS, MOTIONS, OPPOSITES, SHAPES, held_out, spins_visibly

ROOT = Path(__file__).parents[2]
GRAPH = ROOT / "workflows" / "api" / "text_to_video_pocket.json"
RESULT = Path(__file__).parent / "measured" / "text_to_video.json"
FILES = (GRAPH, CHECKPOINT, VIDEO_LAYERS, Path(reader.__file__))
TRAVELS = (*DIRECTIONS, "getting bigger", "getting smaller")


def prompts(seed: int, count: int) -> list[dict]:
    """`count` prompts, motions in turn, every other one a held-out combination."""
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
    """Pairs that share a first frame, a shape in the middle, and name opposite motions."""
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


def graph(prompt: dict, seed: int) -> dict:
    """The demo's graph, saving lossless frames instead of a video."""
    filled = client.fill(json.loads(GRAPH.read_text()), prompt["text"], prompt.get("image"), prompt.get("seed", seed))
    by_type = {node["class_type"]: key for key, node in filled.items()}
    frames = filled[by_type["CreateVideo"]]["inputs"]["images"]
    first = filled[by_type["PreviewImage"]]["inputs"]["images"]
    for kind in ("SaveVideo", "CreateVideo", "PreviewImage"):
        del filled[by_type[kind]]
    for name, images in (("first", first), ("frames", frames)):
        # The text makes ComfyUI save a first frame again that it has cached for the other prompt of a pair.
        inputs = {"images": images, "filename_prefix": f"measure/{name} {prompt['text']}"}
        filled[name] = {"class_type": "SaveImage", "inputs": inputs, "_meta": {"title": name}}
    return filled


def read_picture(file: Path) -> np.ndarray:
    """uint8 [h, w, 3], RGB."""
    picture = cv2.imread(str(file))
    if picture is None:
        raise FileNotFoundError(f"{file} is no picture that can be read.")
    return picture[:, :, ::-1]


def saved_frames(running: server.Server, outputs: dict[str, dict], name: str) -> np.ndarray:
    """uint8 [n, h, w, 3]: what the Save Image node `name` saved; its files are deleted."""
    files = client.saved_files({name: outputs[name]}, running.output)
    pictures = np.stack([read_picture(file) for file in files])
    for file in files:
        file.unlink()
    return pictures


async def clip(running: server.Server, workflow: dict) -> tuple[np.ndarray, np.ndarray]:
    """(first frame, frames [8, h, w, 3]) as uint8 RGB."""
    outputs = await client.execute(running.url, workflow, lambda *_: None)
    return saved_frames(running, outputs, "first")[0], saved_frames(running, outputs, "frames")


def judge(prompt: dict, first: np.ndarray, frames: np.ndarray) -> dict:
    reading: Reading = read_clip(frames)
    begin, end = reading.sights[0], reading.sights[-1]
    error = float(np.square(first.astype(np.float64) - frames[0]).mean())
    return {
        "motion": reading.motion == prompt["motion"],
        "read": reading.motion,
        "colour": reading.majority("colour") == prompt.get("colour"),
        "shape": reading.majority("shape") == prompt.get("shape"),
        "present": reading.present,
        "same": bool(begin and end and begin.shape == end.shape),
        "psnr": 10 * math.log10(255**2 / max(error, 1e-3)),
        "drift": reading.drift,
    }


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a share."""
    z, share = 1.96, hits / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return centre - half, centre + half


def share(rows: list[dict], key: str) -> str:
    hits = sum(row[key] for row in rows)
    low, high = wilson(hits, len(rows))
    return f"{hits / len(rows):.1%} ({low:.1%} to {high:.1%}, n = {len(rows)})"


def mean(rows: list[dict], key: str) -> str:
    values = np.array([row[key] for row in rows])
    half = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
    return f"{values.mean():.2f} ± {half:.2f} (n = {len(rows)})"


def table(rows: list[dict], pairs: list[dict]) -> list[tuple[str, str, str]]:
    """(what, target, measured) for the README."""
    travels = [r for r in rows if r["wanted"] in TRAVELS]
    tricks = [r for r in rows if r["wanted"] in ("spinning", "bouncing")]
    lines = [
        ("colour right", ">= 97 %", share(rows, "colour")),
        ("shape right", ">= 90 %", share(rows, "shape")),
        ("motion right (direction, growth), seen", ">= 95 %", share([r for r in travels if not r["unseen"]], "motion")),
        ("motion right, held-out combinations", ">= 90 %", share([r for r in travels if r["unseen"]], "motion")),
        ("spinning and bouncing right", ">= 80 %", share(tricks, "motion")),
        ("object in all frames", ">= 97 %", share(rows, "present")),
        ("same shape in first and last frame", ">= 90 %", share(rows, "same")),
        ("PSNR of frame 0 to the first frame, dB", ">= 27", mean(rows, "psnr")),
        ("drift of the background, of 255", "<= 2", mean(rows, "drift")),
    ]
    if pairs:
        lines.append(("opposite captions, same centred first frame", ">= 95 %", share(pairs, "motion")))
    return lines


async def measure(running: server.Server, chosen: list[dict], rows: list[dict], save, sheet: Path) -> None:
    strips = []
    for i, prompt in enumerate(chosen):
        if i < len(rows):
            continue
        first, frames = await clip(running, graph(prompt, seed=i))
        rows.append(judge(prompt, first, frames) | {"wanted": prompt["motion"], "unseen": prompt.get("unseen", False)})
        strips.append(np.concatenate([first, *frames], 1))
        if not rows[-1]["motion"]:
            print(f"{prompt['text']} -> {rows[-1]['read'] or 'nothing'}", flush=True)
        if (i + 1) % 8 == 0 or i + 1 == len(chosen):
            print(f"{i + 1} of {len(chosen)}", flush=True)
            save()
            cv2.imwrite(str(sheet), np.concatenate(strips[-24:])[:, :, ::-1])


def main(count: int, pairs: int, seed: int, result: Path) -> None:
    state = {"rows": [], "pairs": []} | load_rows(result, FILES, seed=seed)

    with server.running(comfyui.find(None) or comfyui.fetch(), comfyui.make_base()) as running:
        jobs = ((prompts(seed, count), "rows"), (opposite_prompts(seed + 1, pairs), "pairs"))
        for chosen, key in jobs:
            sheet = result.with_name(f"measured_{key}.png")
            asyncio.run(measure(running, chosen, state[key], lambda: save_rows(result, state), sheet))
    state["table"] = table(state["rows"][:count], state["pairs"][:pairs])
    save_rows(result, state)
    print("| | target | measured |\n|---|---|---|")
    for line in state["table"]:
        print("| " + " | ".join(line) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=96, help="clips of the opposite-captions test")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--result", type=Path, default=RESULT)
    main(**vars(parser.parse_args()))
