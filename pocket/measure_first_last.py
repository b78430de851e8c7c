"""Measures first-and-last-frame videos of the shipped layers, against the world itself.

Of every clip of 8 frames the first and the last are given, pixel for pixel; a ComfyUI server makes the six between, and
blending and optical flow make them, too. Interrupted runs go on where they were. Writes
pocket/measured_first_last.json and a contact sheet; prints the tables of pocket/README.md.
"""

import argparse
import asyncio
import json
from pathlib import Path

import cv2
import numpy as np

from ..launcher import client, comfyui, server
from .interpolation_score import CEILING, METHODS, MODEL, SIMPLER, at, compare, places, table
from .measure import ROOT, saved_frames
from .measure_interpolation import chosen_clips, input_name, simpler_ways, through_autoencoder
from .rows import load_rows, save_rows
from .shipped import CHECKPOINT, VIDEO_LAYERS
from .world import FRAMES, TIMES, render_clips

GRAPH = ROOT / "workflows" / "api" / "animate_image_pocket.json"
RESULT = Path(__file__).parent / "measured_first_last.json"
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
    state = {"rows": []} | load_rows(result, FILES, seed=seed)
    base, strips = comfyui.make_base(), []
    with server.running(comfyui.find(None) or comfyui.fetch(), base) as running:
        for i, (kind, unseen, clip) in enumerate(chosen_clips(seed, count, TIMES)):
            if i < len(state["rows"]):
                continue
            truth = render_clips([clip])[0][0].movedim(1, -1).numpy()
            given = truth[[0, -1]]
            for j, frame in enumerate(given):
                cv2.imwrite(str(base / "input" / input_name(j)), frame[:, :, ::-1])
            outputs = asyncio.run(client.execute(running.url, graph(clip.caption, i), lambda *_: None))
            sampled = saved_frames(running, outputs, "frames")
            videos = {MODEL: sampled, **simpler_ways(given, FRAMES - 1), CEILING: through_autoencoder(truth)}
            real, between = places(truth, clip)[:, BETWEEN], at(clip, BETWEEN)
            scores = {name: compare(video[BETWEEN], truth[BETWEEN], between, real) for name, video in videos.items()}
            state["rows"].append({"kind": kind, "unseen": unseen, "caption": clip.caption, "methods": scores})
            strips += [np.concatenate(list(video), 1) for video in (truth, sampled, videos[SIMPLER[-1]])]
            if (i + 1) % 8 == 0 or i + 1 == count:
                print(f"{i + 1} of {count}", flush=True)
                save_rows(result, state)
                cv2.imwrite(str(result.with_suffix(".png")), np.concatenate(strips[-24:])[:, :, ::-1])
    print(tables(state["rows"][:count]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=80)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--result", type=Path, default=RESULT)
    main(**vars(parser.parse_args()))
