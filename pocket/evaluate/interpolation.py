"""Measure the shipped interpolation layers through the shipped graph, against the world itself at the finer rate.

8 frames of every clip are given, pixel for pixel. A ComfyUI server makes 37 of them. Three simpler methods make the
frames between the given ones: repetition, linear blending, optical flow. The true frames, encoded and decoded, show the
error of the autoencoder. Interrupted runs continue. Writes pocket/evaluate/measured/interpolation.jsonl and a contact
sheet; prints the tables of pocket/README.md.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from ...evaluation import measure, pictures
from ...evaluation.graph import Graph
from ...evaluation.metrics import fidelity
from ...evaluation.results import Results
from ...evaluation.servers import Job, Outputs
from ...optical_flow.between import frames_between
from ..model.autoencoder import Autoencoder
from ..model.checkpoint import load_autoencoder
from ..shipped import CHECKPOINT, INTERPOLATION_LAYERS, VIDEO_LAYERS
from ..world import CROSSING, FINE_TIMES, GIVEN, Clip, render_clips, sample_clips, showing
from ..world.vocabulary import COLOURS, MOTIONS, SHAPES, held_out, spins_visibly
from . import interpolation_score
from .interpolation_score import CEILING, INNER, MODEL, SIMPLER, score
from .interpolation_tables import tables
from .text_to_video import ROOT

GRAPH = ROOT / "workflows" / "api" / "animate_image_interpolated_pocket.json"
RESULT = Path(__file__).parent / "measured" / "interpolation.jsonl"
FILES = (
    GRAPH,
    CHECKPOINT,
    VIDEO_LAYERS,
    INTERPOLATION_LAYERS,
    Path(interpolation_score.__file__),
    Path(fidelity.__file__),
)
KINDS = (*MOTIONS, *CROSSING)

Judge = Callable[[Clip, np.ndarray, np.ndarray], tuple[dict, list[np.ndarray]]]
"""(clip, true frames, the model's frames) -> figures, and videos [frames, h, w, 3] for the contact sheet."""


def chosen_clips(seed: int, count: int, times: np.ndarray = FINE_TIMES) -> list[tuple[str, bool, Clip]]:
    """Return (kind, unseen, clip): motions in turn, every other clip with a combination held out of training."""
    clips = []
    for i in range(count):
        kind, unseen = KINDS[i // 2 % len(KINDS)], i % 2 == 1
        (clip,) = sample_clips(seed * 100_003 + i, 1, times, showing(kind))
        clips.append((kind, unseen, with_held_out_shape(clip, seed + i) if unseen else clip))
    return clips


def with_held_out_shape(clip: Clip, seed: int) -> Clip:
    """Return the scene with a colour and shape of its first body whose combination with its motion is held out."""
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
    """Return all frames from the first given one to the last, by every method except the model; uint8, as `given`."""
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
    return load_autoencoder(CHECKPOINT)


@torch.no_grad()
def through_autoencoder(frames: np.ndarray) -> np.ndarray:
    """Encode and decode frames, uint8 [n, h, w, 3], with the shipped autoencoder."""
    model = shipped_autoencoder()
    decoded = model.decode(model.encode(torch.from_numpy(frames).movedim(-1, 1).float() / 255))
    return decoded.clamp(0, 1).mul(255).round().to(torch.uint8).movedim(1, -1).numpy()


def graph(caption: str, files: list[str], seed: int, settings: dict) -> Graph:
    """Return the second half of the shipped graph with `files` of the input folder as its frames. Results are lossless.

    settings: overrides of the graph's values (steps, text_guidance, image_guidance, noise_level).
    """
    filled = Graph.load(GRAPH).filled(caption)
    conditioning, join = filled.id("EmuVideoInterpolation"), filled.id("EmuVideoJoin")
    (sampler,) = (s for s in filled.find("EmuVideoSampler") if filled.source(s, "latent") == conditioning)
    filled.remove("PreviewImage", "CreateVideo", "SaveVideo")
    given = [filled.add(f"given {i}", "LoadImage", image=file) for i, file in enumerate(files)]
    batch = given[0]
    for i, image in enumerate(given[1:], 1):
        batch = filled.add(f"batch {i}", "ImageBatch", image1=batch, image2=image)
    filled.inputs(conditioning)["frames"] = batch
    for node in (conditioning, sampler):
        changes = {"seed": seed, **settings}
        filled.inputs(node).update((name, value) for name, value in changes.items() if name in filled.inputs(node))
    filled.inputs(join).pop("frames", None)
    filled.fetch_images("frames", [join, 0])
    return filled


def input_name(index: int) -> str:
    return f"measured_given_{index}.png"


def measure_clips(
    results: Results,
    count: int,
    seed: int,
    times: np.ndarray,
    *,
    given: Sequence[int],
    graph: Callable[[str, int], Graph],
    judge: Judge,
    servers: list[str] | None,
) -> list[dict]:
    """Return a row for each of `count` clips of the world at `times`, made by ComfyUI servers.

    given: the frames of a clip that its graph(caption, seed) loads as input files.
    """
    clips = {
        f"{i}: {clip.caption}": (kind, unseen, clip)
        for i, (kind, unseen, clip) in enumerate(chosen_clips(seed, count, times))
    }

    def truth_of(clip: Clip) -> np.ndarray:
        return render_clips([clip])[0][0].movedim(1, -1).numpy()

    def job(i: int, key: str) -> Job:
        clip = clips[key][2]
        frames = truth_of(clip)[list(given)]
        return Job(key, graph(clip.caption, i).nodes, {input_name(n): pictures.encode(f) for n, f in enumerate(frames)})

    def judge_outputs(key: str, outputs: Outputs) -> tuple[dict, list[np.ndarray]]:
        kind, unseen, clip = clips[key]
        figures, videos = judge(clip, truth_of(clip), pictures.decode_all(outputs["frames"]))
        return {"kind": kind, "unseen": unseen} | figures, [np.concatenate(list(video[:16]), 1) for video in videos]

    return measure.measure(servers, results, [job(i, key) for i, key in enumerate(clips)], judge_outputs)


def main(count: int, seed: int, result: Path, servers: list[str] | None, **settings) -> None:
    settings = {name: value for name, value in settings.items() if value is not None}
    names = [input_name(i) for i in range(len(GIVEN))]

    def judge(clip: Clip, truth: np.ndarray, sampled: np.ndarray):
        given = truth[list(GIVEN)]
        videos = {MODEL: sampled, **simpler_ways(given), CEILING: through_autoencoder(truth[INNER])}
        return score(clip, truth, videos), [truth[INNER], sampled[INNER], videos[SIMPLER[-1]]]

    results = Results(result, FILES, seed=seed, **settings)
    rows = measure_clips(
        results,
        count,
        seed,
        FINE_TIMES,
        given=GIVEN,
        graph=lambda caption, i: graph(caption, names, i, settings),
        judge=judge,
        servers=servers,
    )
    print("\n\n".join(tables(rows).values()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=128)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--steps", type=int, help="these replace what the shipped graph says")
    parser.add_argument("--text-guidance", type=float)
    parser.add_argument("--image-guidance", type=float)
    parser.add_argument("--noise-level", type=int)
    measure.add_server_option(parser)
    main(**vars(parser.parse_args()))
