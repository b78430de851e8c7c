"""Reproduce known laws of video diffusion on the shipped weights; this needs sampling only.

`guidance`: text and image guidance against motion (Emu Video, Table 4). `steps`: denoising steps against quality.
`schedule`: zero terminal SNR against the stock schedule, on clips whose light changes (Lin et al. 2023). Every arm of a
law samples the same prompts with the same seeds through the shipped graph. Interrupted runs continue. Writes
pocket/evaluate/measured/laws.jsonl, a contact sheet and docs/laws_*.png; prints the tables of docs/laws.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...evaluation import pictures
from ...evaluation.graph import Graph
from ...evaluation.measure import add_server_option, measure
from ...evaluation.metrics import fidelity, motion
from ...evaluation.results import Results
from ...evaluation.servers import Job, Outputs
from ...evaluation.videos import Video
from ..world.background import brightness
from . import law_tables, text_to_video
from .text_to_video import judge, light_prompts, prompts

RESULT = Path(__file__).parent / "measured" / "laws.jsonl"
FILES = (*text_to_video.FILES, Path(motion.__file__))
FPS = 8
SAMPLER = "EmuVideoSampler"
TEXT_WEIGHTS, IMAGE_WEIGHTS = (1.0, 2.0, 4.0, 8.0), (1.0, 2.0, 3.0)
STEPS = (10, 25, 50, 100, 250)
GUIDANCE_STEPS = 25


class Arm(NamedTuple):
    """One setting of a law. point: its place in the table; change: sets it in the graph."""

    point: dict
    change: Callable[[Graph], None]


class Law(NamedTuple):
    """prompts: (seed, count) -> prompts. arms: what is compared on them."""

    prompts: Callable[[int, int], list[dict]]
    arms: list[Arm]


def moving_prompts(seed: int, count: int) -> list[dict]:
    """Return prompts of all motions except still, in turn."""
    chosen = [prompt for prompt in prompts(seed, 3 * count + 20)[::2] if prompt["motion"] != "still"]
    return chosen[:count]


def with_widgets(graph: Graph, **widgets) -> None:
    graph.inputs(SAMPLER).update(widgets)


def with_stock_schedule(graph: Graph) -> None:
    """Sample with the checkpoint's betas as they are; the first timestep still has a trace of signal."""
    model = graph.inputs(SAMPLER)["model"]
    stock = graph.add("Stock schedule", "EmuVideoZeroSNR", model=model, prediction="v", zero_terminal_snr=False)
    graph.inputs(SAMPLER)["model"] = stock


def with_leading_steps(graph: Graph) -> None:
    """Sample the stock schedule as DDIM's first implementations did: the last timestep is never visited."""
    with_stock_schedule(graph)
    key = graph.id(SAMPLER)
    inputs = graph.nodes[key]["inputs"]
    links = {name: inputs[name] for name in ("model", "positive", "image_only", "negative")}
    weights = {name: inputs[name] for name in ("text_guidance", "image_guidance", "guidance_rescale", "guidance")}
    parts = {
        "noise": graph.add("Noise", "RandomNoise", noise_seed=inputs["seed"]),
        "guider": graph.add("Guider", "EmuVideoGuider", **links, **weights),
        "sampler": graph.add("DDIM", "EmuVideoDDIM", eta=inputs["eta"]),
        "sigmas": graph.add(
            "Leading", "BasicScheduler",
            model=inputs["model"], scheduler="ddim_uniform", steps=inputs["steps"], denoise=1.0,
        ),
        "latent_image": inputs["latent"],
    }  # fmt: skip
    graph.nodes[key] = {"class_type": "SamplerCustomAdvanced", "inputs": parts, "_meta": {"title": "Leading steps"}}


LAWS = {
    "guidance": Law(
        moving_prompts,
        [
            Arm(
                {"text": text, "image": image},
                partial(with_widgets, text_guidance=text, image_guidance=image, steps=GUIDANCE_STEPS),
            )
            for text in TEXT_WEIGHTS
            for image in IMAGE_WEIGHTS
        ],
    ),
    "steps": Law(moving_prompts, [Arm({"steps": steps}, partial(with_widgets, steps=steps)) for steps in STEPS]),
    "schedule": Law(
        light_prompts,
        [
            Arm({"schedule": "zero terminal SNR, trailing"}, lambda graph: None),
            Arm({"schedule": "stock, trailing"}, with_stock_schedule),
            Arm({"schedule": "stock, leading"}, with_leading_steps),
        ],
    ),
}


def jobs_of(laws: list[str], seed: int, count: int) -> dict[str, tuple[dict, dict, Graph]]:
    """Return (prompt, point and number of the prompt, graph) of every clip by key.

    The order is prompt by prompt, so that a server samples each first frame once, and an interrupted run has all arms.
    """
    jobs = {}
    chosen = {name: LAWS[name].prompts(seed, count) for name in laws}
    for number in range(count):
        for name in laws:
            prompt = chosen[name][number]
            for arm in LAWS[name].arms:
                graph = text_to_video.graph(prompt, number)
                arm.change(graph)
                words = ", ".join(f"{key} {value}" for key, value in arm.point.items())
                jobs[f"{name} {number}, {words}: {prompt['text']}"] = prompt, {**arm.point, "number": number}, graph
    return jobs


def figures(prompt: dict, first: np.ndarray, frames: np.ndarray) -> dict:
    """Return figures of a clip, uint8 [8, h, w, 3], made from the picture `first` [h, w, 3]."""
    row = judge(prompt, first, frames) | {"score": motion.motion_score(Video(frames, FPS))}
    if "light" in prompt:
        levels = [brightness(frame) for frame in frames]
        row |= {"asked": prompt["light"], "levels": levels, "start": brightness(first)}
        row |= {"psnr": fidelity.psnr(frames[:1], first[None])}
    return row


def main(laws: list[str], count: int, seed: int, result: Path, servers: list[str] | None) -> None:
    found = jobs_of(laws, seed, count)

    def judge_outputs(key: str, outputs: Outputs) -> tuple[dict, list[np.ndarray]]:
        prompt, point, graph = found[key]
        first = pictures.decode(outputs[graph.id("First frame")][0])
        frames = pictures.decode_all(outputs["frames"])
        row = {"law": key.split(maxsplit=1)[0], **point, **figures(prompt, first, frames)}
        return row, [np.concatenate([first, *frames], 1)]

    jobs = [Job(key, graph.nodes) for key, (_, _, graph) in found.items()]
    rows = measure(servers, Results(result, FILES, seed=seed), jobs, judge_outputs)
    print("\n\n".join(law_tables.tables(rows).values()))
    law_tables.write_plots(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--laws", nargs="+", choices=LAWS, default=list(LAWS))
    parser.add_argument("--count", type=int, default=8, help="prompts of each law")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--result", type=Path, default=RESULT)
    add_server_option(parser)
    main(**vars(parser.parse_args()))
