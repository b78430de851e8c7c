"""Measures first-and-last-frame videos of the shipped layers, against the world itself.

Of every clip of 8 frames the first and the last are given, pixel for pixel; a ComfyUI server makes the six between, and
blending and optical flow make them, too. Interrupted runs go on where they were. Writes
pocket/evaluate/measured/first_last.json and a contact sheet; prints the tables of pocket/README.md.
"""

import argparse
import asyncio
import json
from pathlib import Path

import numpy as np

from ...launcher import client, server
from ..shipped import CHECKPOINT, VIDEO_LAYERS
from ..world import FRAMES, TIMES, Clip
from .interpolation import by_the_model, input_name, measure_clips, simpler_ways, through_autoencoder
from .interpolation_score import CEILING, METHODS, MODEL, SIMPLER, at, compare, places, table
from .text_to_video import ROOT

GRAPH = ROOT / "workflows" / "api" / "animate_image_pocket.json"
RESULT = Path(__file__).parent / "measured" / "first_last.json"
FILES = (GRAPH, CHECKPOINT, VIDEO_LAYERS, Path(__file__).with_name("interpolation_score.py"))
BETWEEN = np.arange(1, FRAMES - 1)


def graph(caption: str, seed: int) -> dict:
    """The shipped graph with First and Last Frame Conditioning in place of First Frame's; saves lossless frames."""
    filled = client.fill(json.loads(GRAPH.read_text()), caption, None, seed)
    by_type = {node["class_type"]: key for key, node in filled.items()}
    conditioning = filled[by_type["EmuVideoFirstFrame"]]
    conditioning["class_type"] = "EmuVideoFirstLast"
    del conditioning["inputs"]["image"]
    for i, name in enumerate(("first", "last")):
        filled[name] = {"class_type": "LoadImage", "inputs": {"image": input_name(i)}}
        conditioning["inputs"][name] = [name, 0]
    for kind in ("LoadImage", "ImageScale", "CreateVideo", "SaveVideo"):
        del filled[by_type[kind]]
    save = {"images": [by_type["VAEDecode"], 0], "filename_prefix": "measure/first_last"}
    filled["frames"] = {"class_type": "SaveImage", "inputs": save, "_meta": {"title": "frames"}}
    return filled


def tables(rows: list[dict]) -> str:
    """Markdown: a table for each figure; mean over clips and 95 % interval."""
    titles = {"centroid": "centroid error of the frames between, pixels", "psnr": "PSNR of the frames between, dB"}
    return "\n\n".join(
        table(rows, title, {m: lambda row, m=m, f=figure: row["methods"][m][f] for m in METHODS})
        for figure, title in titles.items()
    )


def main(count: int, seed: int, result: Path) -> None:
    def measure(running: server.Server, folder: Path, i: int, clip: Clip, truth: np.ndarray):
        given = truth[[0, -1]]
        sampled = asyncio.run(by_the_model(running, folder, graph(clip.caption, i), given))
        videos = {MODEL: sampled, **simpler_ways(given, FRAMES - 1), CEILING: through_autoencoder(truth)}
        real, between = places(truth, clip)[:, BETWEEN], at(clip, BETWEEN)
        scores = {name: compare(video[BETWEEN], truth[BETWEEN], between, real) for name, video in videos.items()}
        return {"methods": scores}, [truth, sampled, videos[SIMPLER[-1]]]

    print(tables(measure_clips(result, FILES, count, seed, TIMES, measure)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=80)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--result", type=Path, default=RESULT)
    main(**vars(parser.parse_args()))
