"""Measures long videos: five extensions of one clip, each by a prompt of its own, through the shipped graph.

The shape, its colour and the background stay in all six prompts, the motion changes. Interrupted runs go on where they
were. Writes pocket/evaluate/measured/extension.json and a contact sheet; prints the table of pocket/README.md.
"""

import argparse
import asyncio
import copy
import json
import math
from pathlib import Path

import cv2
import numpy as np

from ...evaluation.results import load_rows, save_rows
from ...launcher import client, comfyui, server
from ..shipped import CHECKPOINT, VIDEO_LAYERS
from ..world import reader
from ..world.reader import read_clip
from ..world.vocabulary import BACKGROUNDS, COLOURS, DIRECTIONS, OPPOSITES, SHAPES, spins_visibly
from .text_to_video import ROOT, mean, saved_frames, share

GRAPH = ROOT / "workflows" / "api" / "extend_three_prompts_pocket.json"
RESULT = Path(__file__).parent / "measured" / "extension.json"
FILES = (GRAPH, CHECKPOINT, VIDEO_LAYERS, Path(reader.__file__))
CLIPS = 6
FRAMES = 8  # of a clip as it is sampled


def chains(seed: int, count: int) -> list[dict]:
    """Motions that leave each other room: a direction and back, spinning (circles: still), back and forth in size."""
    rng = np.random.default_rng(seed)
    chosen = []
    for i in range(count):
        colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
        ground = rng.choice([b for b in BACKGROUNDS if b != colour])
        way = list(DIRECTIONS)[i % len(DIRECTIONS)]
        turn = "spinning" if spins_visibly(shape) else "still"
        motions = [way, OPPOSITES[way], turn, "getting bigger", "getting smaller", way]
        texts = [f"a {colour} {shape} {motion} on a {ground} background" for motion in motions]
        chosen.append({"texts": texts, "motions": motions, "colour": colour, "shape": shape})
    return chosen


def stage_of(graph: dict, join: str) -> dict[str, str]:
    """The nodes that make one extension, by what they do: prompt, extend, sampler, decode, join -> node id."""
    inputs = graph[join]["inputs"]
    extend, decode = inputs["layout"][0], inputs["images"][0]
    sampler, prompt = graph[decode]["inputs"]["samples"][0], graph[extend]["inputs"]["positive"][0]
    return {"prompt": prompt, "extend": extend, "sampler": sampler, "decode": decode, "join": join}


def graph(chain: dict, seed: int, known: int | None) -> dict:
    """The shipped graph with its last stage repeated; saves the frames of each clip as they were sampled.

    known: how many frames an extension knows; None leaves what the graph says.
    """
    filled = client.fill(json.loads(GRAPH.read_text()), chain["texts"][0], None, None)
    (create,) = (key for key, node in filled.items() if node["class_type"] == "CreateVideo")
    last = stage_of(filled, filled[create]["inputs"]["images"][0])
    before = stage_of(filled, filled[last["join"]]["inputs"]["frames"][0])
    first = filled[before["join"]]["inputs"]["frames"][0]
    filled = {k: n for k, n in filled.items() if n["class_type"] not in ("PreviewImage", "CreateVideo", "SaveVideo")}
    stages = [before, last]
    while len(stages) < CLIPS - 1:
        new = {part: f"{part} {len(stages)}" for part in last}
        renamed = {last[part]: key for part, key in new.items()}
        renamed[before["join"]] = stages[-1]["join"]
        for part, key in new.items():
            node = copy.deepcopy(filled[last[part]])
            for name, value in node["inputs"].items():
                if isinstance(value, list):
                    node["inputs"][name] = [renamed.get(value[0], value[0]), value[1]]
            filled[key] = node
        stages.append(new)
    for stage, text in zip(stages, chain["texts"][1:], strict=True):
        filled[stage["prompt"]]["inputs"]["text"] = text
        if known:
            filled[stage["extend"]]["inputs"]["known"] = known
    numbered = [n for n in filled.values() if "seed" in n["inputs"]]
    for i, node in enumerate(numbered):
        node["inputs"]["seed"] = seed * len(numbered) + i
    for i, decode in enumerate([first, *(stage["decode"] for stage in stages)]):
        inputs = {"images": [decode, 0], "filename_prefix": f"measure/clip {i}"}
        filled[f"clip {i}"] = {"class_type": "SaveImage", "inputs": inputs, "_meta": {"title": f"clip {i}"}}
    return filled


async def sampled_clips(running: server.Server, workflow: dict) -> list[np.ndarray]:
    """Six of uint8 [8, h, w, 3]."""
    outputs = await client.execute(running.url, workflow, lambda *_: None)
    return [saved_frames(running, outputs, f"clip {i}") for i in range(CLIPS)]


def judge(chain: dict, clips: list[np.ndarray], known: int) -> tuple[dict, np.ndarray]:
    """What the joined video shows, and the video.

    jump: pixels between the shape in the last known frame and in the same frame as the next clip sampled it, which is
    how far the video jumps where it goes over from one to the other.
    """
    video = np.concatenate([clips[0], *(clip[known:] for clip in clips[1:])])
    first = read_clip(clips[0])
    row = {"first": first.motion == chain["motions"][0], "extensions": []}
    for i, clip in enumerate(clips[1:], 1):
        start = i * (FRAMES - known)
        seen = read_clip(video[start : start + FRAMES])
        given, drawn = seen.sights[known - 1], read_clip(clip[known - 1 : known]).sights[0]
        jump = math.hypot(given.x - drawn.x, given.y - drawn.y) * video.shape[2] if given and drawn else math.nan
        row["extensions"].append(
            {
                "motion": seen.motion == chain["motions"][i],
                "wanted": chain["motions"][i],
                "read": seen.motion,
                "colour": seen.majority("colour") == chain["colour"],
                "shape": seen.majority("shape") == chain["shape"],
                "present": seen.present,
                "jump": jump,
            }
        )
    row["drift"] = read_clip(video[[0, -1]]).drift
    return row, video


def table(rows: list[dict]) -> str:
    columns = ("motion", "colour", "shape", "present")
    lines = ["| extension | motion obeyed | colour | shape | object in all frames | jump at the seam, pixels |"]
    lines.append("|---|---|---|---|---|---|")
    stages = [[row["extensions"][i] for row in rows] for i in range(CLIPS - 1)]
    for name, members in [*((str(i), stage) for i, stage in enumerate(stages, 1)), ("all", sum(stages, []))]:
        there = [m for m in members if not math.isnan(m["jump"])]
        lines.append(f"| {name} | " + " | ".join(share(members, c) for c in columns) + f" | {mean(there, 'jump')} |")
    return "\n".join(lines) + f"\n\nDrift of the background over the whole video, of 255: {mean(rows, 'drift')}"


def main(count: int, seed: int, result: Path, known: int | None) -> None:
    state = {"rows": []} | load_rows(result, FILES, seed=seed, known=known)
    strips = []
    with server.running(comfyui.find(None) or comfyui.fetch(), comfyui.make_base()) as running:
        for i, chain in enumerate(chains(seed, count)):
            if i < len(state["rows"]):
                continue
            workflow = graph(chain, i, known)
            told = next(n["inputs"]["known"] for n in workflow.values() if n["class_type"] == "EmuVideoExtend")
            row, video = judge(chain, asyncio.run(sampled_clips(running, workflow)), told)
            state["rows"].append(row)
            wrong = [f"{e['wanted']} -> {e['read'] or 'nothing'}" for e in row["extensions"] if not e["motion"]]
            print(f"{i + 1} of {count}: {chain['texts'][0]}; {', '.join(wrong) or 'all obeyed'}", flush=True)
            save_rows(result, state)
            strips.append(np.concatenate(list(video[::2]), 1))
            cv2.imwrite(str(result.with_suffix(".png")), np.concatenate(strips[-12:])[:, :, ::-1])
    print(table(state["rows"][:count]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--known", type=int, help="frames that an extension knows, instead of what the graph says")
    parser.add_argument("--result", type=Path, default=RESULT)
    main(**vars(parser.parse_args()))
