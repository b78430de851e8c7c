"""Measure which denoise of a second pass keeps what of a video, with the shipped pocket.

A ComfyUI server makes each clip with the shipped graph, enlarges its latents or its frames by 1.5, and samples them
again with the temporal layers on, as the templates of a second pass do. Interrupted runs continue. Writes
pocket/evaluate/measured/second_pass.jsonl and a contact sheet; prints the table of docs/second_pass.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...evaluation import pictures
from ...evaluation.graph import Graph
from ...evaluation.intervals import finite, mean_text
from ...evaluation.measure import add_server_option, measure
from ...evaluation.results import Results
from ...evaluation.servers import Job, Outputs
from ...evaluation.tables import markdown
from ..world import SIZE, edges
from ..world.edges import edge_width
from ..world.reader import Reading, read_clip
from . import text_to_video
from .text_to_video import prompts, roundness

RESULT = Path(__file__).parent / "measured" / "second_pass.jsonl"
FILES = (*text_to_video.FILES, Path(edges.__file__))
FACTOR = 1.5
WAYS = ("latents", "frames")
DENOISE = (0.0, 0.2, 0.4, 0.6, 0.8)
STEPS, CFG = 20, 2.0


def graph(prompt: dict, seed: int, way: str, denoise: float) -> Graph:
    """Return the shipped graph with a second pass. way: what is enlarged. denoise: 0 = enlarged only."""
    filled = text_to_video.graph(prompt, seed)
    sampler, vae = filled.id("EmuVideoSampler"), filled.link("CheckpointLoaderSimple", 2)
    first = filled.inputs("frames")["images"]
    filled.fetch_images("first pass", first)
    how = {"upscale_method": "bicubic", "scale_by": FACTOR}
    if way == "latents":
        latent = filled.add("Upscale latent", "LatentUpscaleBy", samples=[sampler, 0], **how)
    else:
        frames = filled.add("Upscale frames", "ImageScaleBy", image=first, **how)
        latent = filled.add("Encode frames", "VAEEncode", pixels=frames, vae=vae)
    if denoise:
        given = {name: filled.inputs(sampler)[name] for name in ("model", "positive", "image_only")}
        larger = filled.add("Resize known frames", "EmuVideoResizeKnownFrames", vae=vae, latent=latent, **given)[0]
        latent = filled.add(
            "Second pass", "KSampler",
            model=given["model"], positive=[larger, 0], negative=[larger, 1], latent_image=[larger, 3],
            seed=seed, steps=STEPS, cfg=CFG, sampler_name="euler", scheduler="simple", denoise=denoise,
        )  # fmt: skip
    filled.inputs("frames")["images"] = filled.add("Decode second pass", "VAEDecode", samples=latent, vae=vae)
    return filled


def judge(first: np.ndarray, second: np.ndarray) -> dict:
    """Compare both passes, uint8 [8, h, w, 3]. moved: in pixels of the first pass. edge: in pixels of the second."""
    before, after = read_clip(first), read_clip(second)
    widths = finite(edge_width(frame) for frame in second)
    return {
        "moved": moved(before, after),
        "colour": after.majority("colour") == before.majority("colour"),
        "shape": after.majority("shape") == before.majority("shape"),
        "motion": after.motion == before.motion,
        "edge": float(widths.mean()) if len(widths) else None,
        "roundness": roundness(second, after),
    }


def moved(before: Reading, after: Reading) -> float | None:
    """Return the mean distance in pixels between the shape's places in both passes, None if it is never seen."""
    pairs = [(b, a) for b, a in zip(before.sights, after.sights, strict=True) if b and a]
    return float(np.mean([np.hypot(a.x - b.x, a.y - b.y) * SIZE for b, a in pairs])) if pairs else None


def table(rows: Sequence[dict]) -> str:
    """Return the table of the page: means with 95 % intervals, and shares of clips."""
    lines = []
    for way, denoise in dict.fromkeys((row["way"], row["denoise"]) for row in rows):
        group = [row for row in rows if (row["way"], row["denoise"]) == (way, denoise)]
        shares = (f"{np.mean([row[key] for row in group]):.0%}" for key in ("colour", "shape", "motion"))
        error = np.median(finite(row["roundness"] for row in group))
        places, edges = (mean_text(finite(row[key] for row in group)) for key in ("moved", "edge"))
        lines.append((way, f"{denoise:g}" if denoise else "none", places, *shares, edges, f"{error:.1%}"))
    header = ("enlarged", "denoise", "shape moves, pixels", "same colour", "same shape", "same motion",
              "width of edges, pixels", "distance from the ideal shape, median")  # fmt: skip
    return markdown(header, lines)


def main(*, count: int, seed: int, result: Path, servers: list[str] | None) -> None:
    found = {
        f"{number}, {way}, denoise {denoise:g}: {prompt['text']}": (way, denoise, graph(prompt, number, way, denoise))
        for number, prompt in enumerate(prompts(seed, 2 * count)[::2])
        for way in WAYS
        for denoise in DENOISE
    }

    def judge_outputs(key: str, outputs: Outputs) -> tuple[dict, list[np.ndarray]]:
        way, denoise, _ = found[key]
        first, second = (pictures.decode_all(outputs[name]) for name in ("first pass", "frames"))
        return {"way": way, "denoise": denoise, **judge(first, second)}, [np.concatenate(list(second), 1)]

    jobs = [Job(key, graph.nodes) for key, (_, _, graph) in found.items()]
    print(table(measure(servers, Results(result, FILES, seed=seed), jobs, judge_outputs)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=6, help="prompts")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--result", type=Path, default=RESULT)
    add_server_option(parser)
    main(**vars(parser.parse_args()))
