"""Measures the shipped interpolation layers through the shipped graph, against the world itself at the finer rate.

Of every clip 8 frames are given, pixel for pixel; a ComfyUI server makes 37 of them, and between the given ones three
simpler ways make frames, too: repetition, linear blending, optical flow. The true frames, encoded and decoded, show
what the autoencoder alone costs. Interrupted runs go on where they were. Writes
pocket/measured_interpolation.json and a contact sheet; prints the tables of pocket/README.md.
"""

import argparse
import asyncio
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from ..launcher import client, comfyui, server
from ..optical_flow.between import frames_between
from .interpolation_score import CEILING, INNER, MODEL, SIMPLER, score, tables
from .latents import load_autoencoder
from .measure import ROOT, saved_frames
from .rows import load_rows, save_rows
from .shipped import CHECKPOINT, INTERPOLATION_LAYERS, VIDEO_LAYERS
from .vocabulary import COLOURS, MOTIONS, SHAPES, held_out, spins_visibly
from .world import CROSSING, FINE_TIMES, GIVEN, Clip, render_clips, sample_clips

GRAPH = ROOT / "workflows" / "api" / "animate_image_interpolated_pocket.json"
RESULT = Path(__file__).parent / "measured_interpolation.json"
FILES = (GRAPH, CHECKPOINT, VIDEO_LAYERS, INTERPOLATION_LAYERS, Path(__file__).with_name("interpolation_score.py"))
KINDS = (*MOTIONS, *CROSSING)


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


@torch.no_grad()
def through_autoencoder(frames: np.ndarray) -> np.ndarray:
    """uint8 [n, h, w, 3] -> the same, encoded and decoded by the shipped autoencoder."""
    model = load_autoencoder(CHECKPOINT.parent)
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
    """uint8 [37, h, w, 3]: the frames as they are sampled, the given ones among them."""
    for i, frame in enumerate(given):
        cv2.imwrite(str(folder / input_name(i)), frame[:, :, ::-1])
    outputs = await client.execute(running.url, workflow, lambda *_: None)
    return saved_frames(running, outputs, "frames")


def input_name(index: int) -> str:
    return f"measured_given_{index}.png"


def main(count: int, seed: int, result: Path, **settings) -> None:
    settings = {name: value for name, value in settings.items() if value is not None}
    state = {"rows": []} | load_rows(result, FILES, seed=seed, **settings)
    names, strips, base = [input_name(i) for i in range(len(GIVEN))], [], comfyui.make_base()
    with server.running(comfyui.find(None) or comfyui.fetch(), base) as running:
        for i, (kind, unseen, clip) in enumerate(chosen_clips(seed, count)):
            if i < len(state["rows"]):
                continue
            truth = render_clips([clip])[0][0].movedim(1, -1).numpy()
            given = truth[list(GIVEN)]
            workflow = graph(clip.caption, names, i, settings)
            sampled = asyncio.run(by_the_model(running, base / "input", workflow, given))
            videos = {MODEL: sampled, **simpler_ways(given), CEILING: through_autoencoder(truth[INNER])}
            row = {"kind": kind, "unseen": unseen, "caption": clip.caption}
            state["rows"].append(row | score(clip, truth, videos))
            for video in (truth[INNER], sampled[INNER], videos[SIMPLER[-1]]):
                strips.append(np.concatenate(list(video[:16]), 1))
            if (i + 1) % 8 == 0 or i + 1 == count:
                print(f"{i + 1} of {count}", flush=True)
                save_rows(result, state)
                cv2.imwrite(str(result.with_suffix(".png")), np.concatenate(strips[-24:])[:, :, ::-1])
    print(tables(state["rows"][:count]))


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
