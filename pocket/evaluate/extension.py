"""Measure long videos: five extensions of one clip, each with another prompt, through the shipped graph.

Shape, colour and background are the same in all six prompts; the motion changes. Interrupted runs continue. Writes
pocket/evaluate/measured/extension.jsonl and a contact sheet; prints the table of pocket/README.md.
"""

import argparse
import copy
import math
from pathlib import Path

import numpy as np

from ...evaluation import pictures
from ...evaluation.graph import Graph, is_link
from ...evaluation.intervals import finite, mean_text, share_text
from ...evaluation.measure import add_server_option, measure
from ...evaluation.results import Results
from ...evaluation.servers import Job, Outputs
from ...evaluation.tables import markdown
from ..shipped import CHECKPOINT, VIDEO_LAYERS
from ..world import reader
from ..world.reader import read_clip
from ..world.vocabulary import BACKGROUNDS, COLOURS, DIRECTIONS, OPPOSITES, SHAPES, spins_visibly
from .text_to_video import ROOT

GRAPH = ROOT / "workflows" / "api" / "extend_three_prompts_pocket.json"
RESULT = Path(__file__).parent / "measured" / "extension.jsonl"
FILES = (GRAPH, CHECKPOINT, VIDEO_LAYERS, Path(reader.__file__))
CLIPS = 6
FRAMES = 8  # of a sampled clip


def chains(seed: int, count: int) -> list[dict]:
    """Return `count` chains of prompts whose motions stay in view.

    The motions are a direction and back, spinning (circles: still), bigger and smaller, and the direction again.
    """
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


def stage_of(graph: Graph, join: str) -> dict[str, str]:
    """Return the nodes that make one extension: prompt, extend, sampler, decode, join -> node id."""
    extend, decode = graph.source(join, "layout"), graph.source(join, "images")
    sampler, prompt = graph.source(decode, "samples"), graph.source(extend, "positive")
    return {"prompt": prompt, "extend": extend, "sampler": sampler, "decode": decode, "join": join}


def repeated(graph: Graph, stage: dict[str, str], before: str, after: str, name: str) -> dict[str, str]:
    """Copy a stage that continues the join `before`, so that it continues the join `after`; return the new stage."""
    new = {part: f"{part} {name}" for part in stage}
    renamed = {stage[part]: key for part, key in new.items()} | {before: after}
    for part, key in new.items():
        node = copy.deepcopy(graph.nodes[stage[part]])
        links = {slot: value for slot, value in node["inputs"].items() if is_link(value)}
        node["inputs"] |= {slot: [renamed.get(source, source), output] for slot, (source, output) in links.items()}
        graph.nodes[key] = node
    return new


def graph(chain: dict, seed: int, known: int | None) -> Graph:
    """Return the shipped graph with its last stage repeated, and with the sampled frames of each clip saved.

    known: number of frames that an extension knows; None keeps the graph's value.
    """
    filled = Graph.load(GRAPH).filled(chain["texts"][0])
    last = stage_of(filled, filled.source("CreateVideo", "images"))
    before = stage_of(filled, filled.source(last["join"], "frames"))
    first = filled.source(before["join"], "frames")
    filled.remove("PreviewImage", "CreateVideo", "SaveVideo")
    stages = [before, last]
    while len(stages) < CLIPS - 1:
        stages.append(repeated(filled, last, before["join"], stages[-1]["join"], str(len(stages))))
    for stage, text in zip(stages, chain["texts"][1:], strict=True):
        filled.inputs(stage["prompt"])["text"] = text
        if known:
            filled.inputs(stage["extend"])["known"] = known
    numbered = [n for n in filled.nodes.values() if "seed" in n["inputs"]]
    for i, node in enumerate(numbered):
        node["inputs"]["seed"] = seed * len(numbered) + i
    for i, decode in enumerate([first, *(stage["decode"] for stage in stages)]):
        filled.fetch_images(f"clip {i}", [decode, 0])
    return filled


def judge(chain: dict, clips: list[np.ndarray], known: int) -> tuple[dict, np.ndarray]:
    """Return figures of the joined video, and the video.

    jump: distance in pixels between the shape in the last known frame and in the next clip's sample of this frame. The
    video jumps by this distance at the seam.
    """
    video = np.concatenate([clips[0], *(clip[known:] for clip in clips[1:])])
    first = read_clip(clips[0])
    row = {"first": first.motion == chain["motions"][0], "extensions": []}
    for i, clip in enumerate(clips[1:], 1):
        start = i * (FRAMES - known)
        seen = read_clip(video[start : start + FRAMES])
        given, drawn = seen.sights[known - 1], read_clip(clip[known - 1 : known]).sights[0]
        jump = math.hypot(given.x - drawn.x, given.y - drawn.y) * video.shape[2] if given and drawn else None
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
    """Return the table of pocket/README.md."""
    columns = ("motion", "colour", "shape", "present")
    stages = [[row["extensions"][i] for row in rows] for i in range(CLIPS - 1)]
    every = [extension for stage in stages for extension in stage]
    lines = []
    for name, members in [*((str(i), stage) for i, stage in enumerate(stages, 1)), ("all", every)]:
        shares = [share_text([member[column] for member in members]) for column in columns]
        there = finite(member["jump"] for member in members)
        lines.append((name, *shares, f"{mean_text(there)} (n = {len(there)})"))
    header = "extension", "motion obeyed", "colour", "shape", "object in all frames", "jump at the seam, pixels"
    drift = mean_text(row["drift"] for row in rows)
    return (
        f"{markdown(header, lines)}\n\nDrift of the background over the whole video, of 255: {drift} (n = {len(rows)})"
    )


def main(count: int, seed: int, result: Path, known: int | None, servers: list[str] | None) -> None:
    chosen = {f"{i}: {chain['texts'][0]}": chain for i, chain in enumerate(chains(seed, count))}
    graphs = {key: graph(chain, i, known) for i, (key, chain) in enumerate(chosen.items())}

    def judge_outputs(key: str, outputs: Outputs) -> tuple[dict, list[np.ndarray]]:
        clips = [pictures.decode_all(outputs[f"clip {i}"]) for i in range(CLIPS)]
        extend = graphs[key].find("EmuVideoExtend")[0]
        row, video = judge(chosen[key], clips, graphs[key].inputs(extend)["known"])
        wrong = [f"{e['wanted']} -> {e['read'] or 'nothing'}" for e in row["extensions"] if not e["motion"]]
        print(f"{key}; {', '.join(wrong) or 'all obeyed'}", flush=True)
        return row, [np.concatenate(list(video[::2]), 1)]

    jobs = [Job(key, of_chain.nodes) for key, of_chain in graphs.items()]
    print(table(measure(servers, Results(result, FILES, seed=seed, known=known), jobs, judge_outputs)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--known", type=int, help="frames that an extension knows, instead of what the graph says")
    parser.add_argument("--result", type=Path, default=RESULT)
    add_server_option(parser)
    main(**vars(parser.parse_args()))
