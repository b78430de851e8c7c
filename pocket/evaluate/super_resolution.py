"""Measure the shipped super-resolution layers through ComfyUI, against the world itself at twice the size.

A clip of 8 frames is drawn at 256 pixels and made smaller by 2. A ComfyUI server makes it larger again; bicubic and
Lanczos interpolation also do, for comparison. The true frames, encoded and decoded, show the error of the autoencoder.
A part of the clips is also made larger with other noise levels and from corrupted frames: where does noise on the known
frames begin to help? The pocket's own videos are made larger, too. Interrupted runs continue. Writes
pocket/evaluate/measured/super_resolution.jsonl and a contact sheet.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import torch

from ...diffusion.resize import downscaled, matched
from ...evaluation import pictures
from ...evaluation.graph import Graph
from ...evaluation.intervals import mean_text
from ...evaluation.measure import add_server_option, measure
from ...evaluation.metrics import fidelity
from ...evaluation.results import Results
from ...evaluation.servers import Job, Outputs
from ...evaluation.tables import markdown
from ..shipped import SUPER_RESOLUTION_LAYERS
from ..world import SIZE, TIMES, Clip, edges, render_clips
from ..world.edges import edge_width
from ..world.reader import read_clip
from . import super_resolution_own, text_to_video
from .interpolation import chosen_clips, input_name, through_autoencoder
from .interpolation_score import CEILING, MODEL, flicker
from .text_to_video import ROOT

GRAPH = ROOT / "workflows" / "api" / "animate_image_pocket.json"
RESULT = Path(__file__).parent / "measured" / "super_resolution.jsonl"
FILES = (GRAPH, super_resolution_own.CASCADE, *text_to_video.FILES, SUPER_RESOLUTION_LAYERS, Path(edges.__file__))
FACTOR = 2
FILTERS = {"bicubic": cv2.INTER_CUBIC, "Lanczos": cv2.INTER_LANCZOS4}
MATCHED = "model, and Match Small Video"
METHODS = (MODEL, MATCHED, *FILTERS, CEILING)
LEVELS = (0, 100, 250)
CORRUPTIONS = (0.0, 6.0)
GRAIN = 1.5  # pixels: standard deviation of the blur of a corruption's noise


def graph(caption: str, seed: int, noise_level: int, frames: int = len(TIMES)) -> Graph:
    """Return the shipped graph with super-resolution of the uploaded frames instead of a first frame."""
    filled = Graph.load(GRAPH).filled(caption, seed=seed)
    filled.remove("LoadImage", "ImageScale")
    filled.inputs("EmuVideoLoadTemporalLayers")["temporal_layers"] = SUPER_RESOLUTION_LAYERS.name
    filled.inputs("EmuVideoSampler").update(super_resolution_own.shipped_settings())
    batch = filled.add("frame 0", "LoadImage", image=input_name(0))
    for i in range(1, frames):
        image = filled.add(f"frame {i}", "LoadImage", image=input_name(i))
        batch = filled.add(f"frames to {i}", "ImageBatch", image1=batch, image2=image)
    conditioning = filled.nodes[filled.id("EmuVideoFirstFrame")]
    conditioning["class_type"] = "EmuVideoSuperResolution"
    for name in ("image", "frames"):
        del conditioning["inputs"][name]
    settings = {"factor": FACTOR, "noise_level": noise_level, "seed": seed, "window": frames, "tile": 0}
    conditioning["inputs"] |= {"frames": batch, **settings, "initial_noise": "each frame"}
    filled.fetch_frames()
    return filled


def true_frames(clip: Clip) -> np.ndarray:
    """Return the clip's frames at twice the size, uint8 [8, 256, 256, 3]."""
    return render_clips([clip], FACTOR * SIZE)[0][0].movedim(1, -1).numpy()


def made_smaller(truth: np.ndarray, corruption: float, seed: int) -> np.ndarray:
    """Return frames of half the size, uint8. corruption: standard deviation of blotches that are added, of 255."""
    small = downscaled(torch.from_numpy(truth).float(), FACTOR).numpy()
    if corruption:
        noise = np.random.default_rng(seed).normal(size=small.shape).astype(np.float32)
        blotches = np.stack([cv2.GaussianBlur(frame, (0, 0), GRAIN) for frame in noise])
        small = small + corruption * blotches / blotches.std()
    return small.round().clip(0, 255).astype(np.uint8)


def judge(clip: Clip, truth: np.ndarray, small: np.ndarray, sampled: np.ndarray) -> tuple[dict, list[np.ndarray]]:
    """Compare the frames of the model and of the filters with the true frames [8, 256, 256, 3]."""
    size = truth.shape[2], truth.shape[1]
    filtered = {
        name: np.stack([cv2.resize(frame, size, interpolation=how) for frame in small]) for name, how in FILTERS.items()
    }
    images, given = (torch.from_numpy(frames).float() / 255 for frames in (sampled, small))
    after = (matched(images, given) * 255).round().to(torch.uint8).numpy()
    videos = {MODEL: sampled, MATCHED: after, **filtered, CEILING: through_autoencoder(truth)}
    scores = {name: score(clip, video, truth) for name, video in videos.items()}
    scores["truth"] = {"edge": mean_edge(clip, truth)}
    return {"methods": scores}, [truth, after, filtered["bicubic"]]


def score(clip: Clip, video: np.ndarray, truth: np.ndarray) -> dict[str, float | None]:
    figures = {
        "psnr": fidelity.psnr(video, truth),
        "ssim": fidelity.ssim(video, truth),
        "flicker": flicker(video, truth),
        "edge": mean_edge(clip, video),
    }
    if len(clip.bodies) == 1:
        body, reading = clip.bodies[0], read_clip(video)
        figures["read"] = (reading.majority("colour"), reading.majority("shape"), reading.motion) == (
            body.colour, body.shape, body.motion,
        )  # fmt: skip
    return figures


def mean_edge(clip: Clip, video: np.ndarray) -> float | None:
    """Return the mean width of the edges of a clip with one shape, in pixels."""
    if len(clip.bodies) > 1:
        return None
    widths = np.array([edge_width(frame) for frame in video])
    return float(np.nanmean(widths)) if np.isfinite(widths).any() else None


def table(rows: list[dict]) -> str:
    """Return the table of all methods: means over clips with 95 % intervals."""
    titles = {
        "psnr": "PSNR, dB",
        "ssim": "SSIM",
        "edge": "width of edges, pixels",
        "flicker": "flicker, of 255",
        "read": "colour, shape and motion read right",
    }

    def cell(method: str, figure: str) -> str:
        values = [row["methods"].get(method, {}).get(figure) for row in rows]
        values = [value for value in values if value is not None]
        digits = 3 if figure == "ssim" else 2
        if figure == "read":
            return f"{np.mean(values):.1%} (n = {len(values)})" if values else ""
        return mean_text(values, digits) if values else ""

    lines = [[method, *(cell(method, figure) for figure in titles)] for method in (*METHODS, "truth")]
    return markdown((f"{len(rows)} clips", *titles.values()), lines)


def crossover(rows: list[dict]) -> str:
    """Return PSNR by corruption of the small video and by noise level of the known frames."""
    levels, corruptions = (sorted({row[name] for row in rows}) for name in ("level", "corruption"))

    def cell(method: str, corruption: float, level: int) -> str:
        group = [row for row in rows if (row["corruption"], row["level"]) == (corruption, level)]
        return mean_text(row["methods"][method]["psnr"] for row in group)

    lines = [
        [
            f"{corruption:g}",
            *(cell(MODEL, corruption, level) for level in levels),
            cell("bicubic", corruption, levels[0]),
        ]
        for corruption in corruptions
    ]
    return markdown(("corruption, of 255", *(f"noise level {level}" for level in levels), "bicubic"), lines)


def tables(rows: dict[str, dict]) -> dict[str, str]:
    """Return the tables of results by name: all methods as shipped, own videos, and the crossover."""
    clips = [row for row in rows.values() if "methods" in row]
    shipped = [row for row in clips if (row["corruption"], row["level"]) == (0, super_resolution_own.noise_level())]
    counts = Counter(row["clip"] for row in clips)
    grid = [row for row in clips if counts[row["clip"]] == len(LEVELS) * len(CORRUPTIONS)]
    found = {"super_resolution": table(shipped)} if shipped else {}
    if grid:
        found["super_resolution crossover"] = crossover(grid)
    if own := [row for row in rows.values() if "small" in row]:
        found["super_resolution own"] = super_resolution_own.table(own)
    return found


def main(*, count: int, grid: int, own: int, seed: int, result: Path, servers: list[str] | None) -> None:
    clips = [clip for _, _, clip in chosen_clips(seed, count, TIMES)]
    shipped = 0.0, super_resolution_own.noise_level()
    settings = {(corruption, level) for corruption in CORRUPTIONS for level in LEVELS}
    jobs, found = [], {}
    for i, clip in enumerate(clips):
        for corruption, level in sorted(settings if i < grid else {shipped}):
            small = made_smaller(true_frames(clip), corruption, i)
            uploads = {input_name(n): pictures.encode(frame) for n, frame in enumerate(small)}
            key = f"{i}, noise level {level}, corruption {corruption:g}: {clip.caption}"
            found[key] = clip, corruption, level, i
            jobs.append(Job(key, graph(clip.caption, i, level).nodes, uploads))
    own_videos = super_resolution_own.jobs(seed, own)

    def judge_outputs(key: str, outputs: Outputs) -> tuple[dict, list[np.ndarray]]:
        if key in own_videos:
            return super_resolution_own.judge(own_videos[key][0], outputs)
        clip, corruption, level, i = found[key]
        truth = true_frames(clip)
        small = made_smaller(truth, corruption, i)
        row, videos = judge(clip, truth, small, pictures.decode_all(outputs["frames"]))
        strips = [np.concatenate(list(video), 1) for video in videos]
        return {"clip": i, "level": level, "corruption": corruption} | row, strips

    jobs += [job for _, job in own_videos.values()]
    rows = measure(servers, Results(result, FILES, seed=seed), jobs, judge_outputs)
    for text in tables({job.key: row for job, row in zip(jobs, rows, strict=True)}).values():
        print(f"\n{text}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=128, help="clips with known truth")
    parser.add_argument("--grid", type=int, default=24, help="how many of them with all noise levels and corruptions")
    parser.add_argument("--own", type=int, default=64, help="videos of the pocket that are made larger")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--result", type=Path, default=RESULT)
    add_server_option(parser)
    main(**vars(parser.parse_args()))
