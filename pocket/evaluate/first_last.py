"""Measure first-and-last-frame videos of the shipped layers, against the world itself.

The first and the last frame of every clip of 8 frames are given, pixel for pixel. A ComfyUI server makes the six
between; blending and optical flow also make them, for comparison. Interrupted runs continue. Writes
pocket/evaluate/measured/first_last.jsonl and a contact sheet; prints the tables of pocket/README.md.
"""

import argparse
from pathlib import Path

import numpy as np

from ...evaluation.graph import Graph
from ...evaluation.measure import add_server_option
from ...evaluation.metrics import fidelity
from ...evaluation.results import Results
from ..shipped import CHECKPOINT, VIDEO_LAYERS
from ..world import FRAMES, TIMES, Clip
from . import interpolation_score
from .interpolation import input_name, measure_clips, simpler_ways, through_autoencoder
from .interpolation_score import CEILING, METHODS, MODEL, SIMPLER, compare, locate_bodies, select_frames
from .interpolation_tables import table
from .text_to_video import ROOT

GRAPH = ROOT / "workflows" / "api" / "animate_image_pocket.json"
RESULT = Path(__file__).parent / "measured" / "first_last.jsonl"
FILES = (GRAPH, CHECKPOINT, VIDEO_LAYERS, Path(interpolation_score.__file__), Path(fidelity.__file__))
BETWEEN = np.arange(1, FRAMES - 1)


def graph(caption: str, seed: int) -> Graph:
    """Return the shipped graph with a given first and last frame instead of only the first. Its frames are lossless."""
    filled = Graph.load(GRAPH).filled(caption, seed=seed)
    filled.remove("LoadImage", "ImageScale")
    conditioning = filled.nodes[filled.id("EmuVideoFirstFrame")]
    conditioning["class_type"] = "EmuVideoFirstLast"
    del conditioning["inputs"]["image"]
    for i, name in enumerate(("first", "last")):
        conditioning["inputs"][name] = filled.add(name, "LoadImage", image=input_name(i))
    filled.fetch_frames()
    return filled


def tables(rows: list[dict]) -> dict[str, str]:
    """Return the tables of pocket/README.md by name; mean over clips and 95 % interval."""
    titles = {"centroid": "centroid error of the frames between, pixels", "psnr": "PSNR of the frames between, dB"}
    return {
        f"first_last {figure}": table(
            rows, title, {m: lambda row, m=m, f=figure: row["methods"][m][f] for m in METHODS}
        )
        for figure, title in titles.items()
    }


def judge(clip: Clip, truth: np.ndarray, sampled: np.ndarray) -> tuple[dict, list[np.ndarray]]:
    """Compare the frames of the model and of the simpler methods with the true frames [8, h, w, 3]."""
    videos = {MODEL: sampled, **simpler_ways(truth[[0, -1]], FRAMES - 1), CEILING: through_autoencoder(truth)}
    real, between = locate_bodies(truth, clip)[:, BETWEEN], select_frames(clip, BETWEEN)
    scores = {name: compare(video[BETWEEN], truth[BETWEEN], between, real) for name, video in videos.items()}
    return {"methods": scores}, [truth, sampled, videos[SIMPLER[-1]]]


def main(count: int, seed: int, result: Path, servers: list[str] | None) -> None:
    results = Results(result, FILES, seed=seed)
    rows = measure_clips(results, count, seed, TIMES, given=(0, FRAMES - 1), graph=graph, judge=judge, servers=servers)
    print("\n\n".join(tables(rows).values()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=80)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--result", type=Path, default=RESULT)
    add_server_option(parser)
    main(**vars(parser.parse_args()))
