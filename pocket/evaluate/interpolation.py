"""Measures the shipped interpolation layers through the shipped graph, against the world itself at the finer rate.

Of every clip 8 frames are given, pixel for pixel; a ComfyUI server makes 37 of them, and between the given ones three
simpler ways make frames, too: repetition, linear blending, optical flow. The true frames, encoded and decoded, show
what the autoencoder alone costs. Interrupted runs go on where they were. Writes
pocket/evaluate/measured/interpolation.json and a contact sheet; prints the tables of pocket/README.md.
"""

import argparse
import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch

from ...evaluation.results import load_rows, save_rows
from ...launcher import client, comfyui, server
from ...optical_flow.between import frames_between
from ..model.autoencoder import Autoencoder
from ..shipped import CHECKPOINT, INTERPOLATION_LAYERS, VIDEO_LAYERS
from ..stages.latents import load_autoencoder
from ..world import CROSSING, FINE_TIMES, GIVEN, Clip, render_clips, sample_clips
from ..world.vocabulary import COLOURS, MOTIONS, SHAPES, held_out, spins_visibly
from .interpolation_score import CEILING, INNER, MODEL, SIMPLER, score, tables
from .text_to_video import ROOT, saved_frames

GRAPH = ROOT / "workflows" / "api" / "animate_image_interpolated_pocket.json"
RESULT = Path(__file__).parent / "measured" / "interpolation.json"
FILES = (GRAPH, CHECKPOINT, VIDEO_LAYERS, INTERPOLATION_LAYERS, Path(__file__).with_name("interpolation_score.py"))
KINDS = (*MOTIONS, *CROSSING)

Measure = Callable[[server.Server, Path, int, Clip, np.ndarray], tuple[dict, list[np.ndarray]]]
"""(server, its input folder, seed, clip, true frames) -> figures, and videos [frames, h, w, 3] to look at."""


def chosen_clips(seed: int, count: int, times: np.ndarray = FINE_TIMES) -> list[tuple[str, bool, Clip]]:
    """(kind, unseen, clip): motions in turn, every other clip with a combination that training never showed."""
    clips = []
    for i in range(count):
        kind, unseen = KINDS[i // 2 % len(KINDS)], i % 2 == 1
        (clip,) = sample_clips(seed * 100_003 + i, 1, times, motions=(kind,))
        clips.append((kind, unseen, with_held_out_shape(clip, seed + i) if unseen else clip))
    return clips


def with_held_out_shape(clip: Clip, seed: int) -> Clip:
    """The same scene; its first body has another colour and shape, held out together with the body's motion."""
    body, *others = clip.bodies
    taken = {clip.background} | {word for other in others for word in (other.colour, other.shape)}
    options = [
        (colour, shape)
        for colour in COLOURS
        for shape in SHAPES
        if held_out(colour, shape, body.motion) and taken.isdisjoint((colour, shape))
        if body.motion != "spinning" or spins_visibly(shape)
    ]
    colour, shape = options[seed % len(options)]
    words = body.words.replace(f"{body.colour} {body.shape}", f"{colour} {shape}")
    rgb = np.array(COLOURS[colour], float)
    caption = clip.caption.replace(body.words, words, 1)
    other = replace(body, colour=colour, shape=shape, words=words, rgb=rgb)
    return replace(clip, caption=caption, bodies=[other, *others])


def simpler_ways(given: np.ndarray, factor: int = 4) -> dict[str, np.ndarray]:
    """All frames from the first given one to the last, by every method but the model; uint8, as `given`."""
    count = factor * (len(given) - 1) + 1
    before, step = np.divmod(np.arange(count), factor)
    after, share = np.minimum(before + 1, len(given) - 1), (step / factor)[:, None, None, None]
    blended = given[before] * (1 - share) + given[after] * share
    flowed = given[before].copy()
    frames = torch.from_numpy(given).float() / 255
    new = torch.stack(list(frames_between(frames, factor))).mul(255).round().to(torch.uint8).numpy()
    flowed[step > 0] = new
    ways = (given[before], blended.round().astype(np.uint8), flowed)
    return dict(zip(SIMPLER, ways, strict=True))


@cache
def shipped_autoencoder() -> Autoencoder:
    return load_autoencoder(CHECKPOINT.parent)


@torch.no_grad()
def through_autoencoder(frames: np.ndarray) -> np.ndarray:
    """uint8 [n, h, w, 3] -> the same, encoded and decoded by the shipped autoencoder."""
    model = shipped_autoencoder()
    decoded = model.decode(model.encode(torch.from_numpy(frames).movedim(-1, 1).float() / 255))
    return decoded.clamp(0, 1).mul(255).round().to(torch.uint8).movedim(1, -1).numpy()


def graph(caption: str, files: list[str], seed: int, settings: dict) -> dict:
    """The second half of the shipped graph, fed with `files` of the input folder; saves lossless frames.

    settings: values of its nodes that replace the graph's own (steps, text_guidance, image_guidance, noise_level).
    """
    filled = client.fill(json.loads(GRAPH.read_text()), caption, None, None)
    by_type: dict[str, list[dict]] = {}
    for key, node in list(filled.items()):
        by_type.setdefault(node["class_type"], []).append(node)
        if node["class_type"] in ("PreviewImage", "CreateVideo", "SaveVideo"):
            del filled[key]
    (conditioning,), (join,) = by_type["EmuVideoInterpolation"], by_type["EmuVideoJoin"]
    sampler = next(n for n in by_type["EmuVideoSampler"] if filled[n["inputs"]["latent"][0]] is conditioning)
    batch = ""
    for i, file in enumerate(files):
        filled[f"given {i}"] = {"class_type": "LoadImage", "inputs": {"image": file}}
        if batch:
            images = {"image1": [batch, 0], "image2": [f"given {i}", 0]}
            filled[f"batch {i}"] = {"class_type": "ImageBatch", "inputs": images}
        batch = f"batch {i}" if batch else f"given {i}"
    conditioning["inputs"] |= {"frames": [batch, 0], "seed": seed}
    sampler["inputs"]["seed"] = seed
    for node in (conditioning, sampler):
        node["inputs"] |= {name: value for name, value in settings.items() if name in node["inputs"]}
    join["inputs"].pop("frames", None)
    joined = next(key for key, node in filled.items() if node is join)
    save = {"images": [joined, 0], "filename_prefix": "measure/interpolated"}
    filled["frames"] = {"class_type": "SaveImage", "inputs": save, "_meta": {"title": "frames"}}
    return filled


async def by_the_model(running: server.Server, folder: Path, workflow: dict, given: np.ndarray) -> np.ndarray:
    """uint8 [frames, h, w, 3]: what the workflow saves as "frames" when its input files are the `given` frames."""
    for i, frame in enumerate(given):
        cv2.imwrite(str(folder / input_name(i)), frame[:, :, ::-1])
    outputs = await client.execute(running.url, workflow, lambda *_: None)
    return saved_frames(running, outputs, "frames")


def input_name(index: int) -> str:
    return f"measured_given_{index}.png"


def measure_clips(
    result: Path, files: tuple[Path, ...], count: int, seed: int, times: np.ndarray, measure: Measure, **settings
) -> list[dict]:
    """A row for each of `count` clips of the world at `times`, made with `measure` on one ComfyUI server.

    Rows that `result` has already are kept as long as `files` and `settings` are the same; it is written on the way,
    with a sheet of the last clips' strips beside it.
    """
    state = {"rows": []} | load_rows(result, files, seed=seed, **settings)
    strips, base = [], comfyui.make_base()
    with server.running(comfyui.find(None) or comfyui.fetch(), base) as running:
        for i, (kind, unseen, clip) in enumerate(chosen_clips(seed, count, times)):
            if i < len(state["rows"]):
                continue
            truth = render_clips([clip])[0][0].movedim(1, -1).numpy()
            figures, videos = measure(running, base / "input", i, clip, truth)
            state["rows"].append({"kind": kind, "unseen": unseen, "caption": clip.caption} | figures)
            strips += [np.concatenate(list(video[:16]), 1) for video in videos]
            if (i + 1) % 8 == 0 or i + 1 == count:
                print(f"{i + 1} of {count}", flush=True)
                save_rows(result, state)
                cv2.imwrite(str(result.with_suffix(".png")), np.concatenate(strips[-24:])[:, :, ::-1])
    return state["rows"][:count]


def main(count: int, seed: int, result: Path, **settings) -> None:
    settings = {name: value for name, value in settings.items() if value is not None}
    names = [input_name(i) for i in range(len(GIVEN))]

    def measure(running: server.Server, folder: Path, i: int, clip: Clip, truth: np.ndarray):
        given = truth[list(GIVEN)]
        sampled = asyncio.run(by_the_model(running, folder, graph(clip.caption, names, i, settings), given))
        videos = {MODEL: sampled, **simpler_ways(given), CEILING: through_autoencoder(truth[INNER])}
        return score(clip, truth, videos), [truth[INNER], sampled[INNER], videos[SIMPLER[-1]]]

    print(tables(measure_clips(result, FILES, count, seed, FINE_TIMES, measure, **settings)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=128)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--steps", type=int, help="these replace what the shipped graph says")
    parser.add_argument("--text-guidance", type=float)
    parser.add_argument("--image-guidance", type=float)
    parser.add_argument("--noise-level", type=int)
    main(**vars(parser.parse_args()))
