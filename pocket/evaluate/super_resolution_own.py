"""Super-resolution of the pocket's own videos: are colour, shape and motion read as well as before?"""

from __future__ import annotations

import numpy as np

from ...evaluation import pictures
from ...evaluation.graph import Graph
from ...evaluation.intervals import mean_text, share_text
from ...evaluation.servers import Job, Outputs
from ...evaluation.tables import markdown
from ..shipped import SUPER_RESOLUTION_LAYERS
from ..world.reader import read_clip
from . import text_to_video
from .text_to_video import ROOT, prompts, roundness

CASCADE = ROOT / "workflows" / "api" / "text_to_video_super_resolution_pocket.json"
LINKS = ("positive", "image_only", "negative", "latent")
READ = ("colour", "shape", "motion")


def shipped_settings() -> dict:
    """Return steps and guidance of the last sampler of the shipped cascade."""
    inputs = Graph.load(CASCADE).inputs("Sample sharp frames")
    return {name: inputs[name] for name in ("steps", "text_guidance", "image_guidance")}


def noise_level() -> int:
    """Return the noise level of the shipped cascade."""
    return Graph.load(CASCADE).inputs("EmuVideoSuperResolution")["noise_level"]


def graph(prompt: dict, seed: int) -> Graph:
    """Return the shipped graph followed by super-resolution; small and large frames are saved."""
    filled = text_to_video.graph(prompt, seed)
    small = filled.inputs("frames")["images"]
    checkpoint, prompt_text, null = (filled.id(name) for name in ("Load Checkpoint", "Video prompt", "Null text"))
    model = filled.add(
        "Large layers", "EmuVideoLoadTemporalLayers",
        model=[checkpoint, 0], temporal_layers=SUPER_RESOLUTION_LAYERS.name,
    )  # fmt: skip
    conditioning, _ = filled.add(
        "Large conditioning", "EmuVideoSuperResolution",
        model=model, vae=[checkpoint, 2], frames=small, positive=[prompt_text, 0], negative=[null, 0],
        factor=2, noise_level=noise_level(), seed=seed, window=0, tile=0, initial_noise="each frame",
    )  # fmt: skip
    settings = {**filled.inputs("Emu Video Sampler"), **shipped_settings(), "model": model}
    links = {name: [conditioning, output] for output, name in enumerate(LINKS)}
    sampled = filled.add("Large sampler", "EmuVideoSampler", **settings | links)
    decoded = filled.add("Large frames", "VAEDecode", samples=sampled, vae=[checkpoint, 2])
    after = filled.add("Match", "EmuVideoMatchSmallVideo", images=decoded, small=small, strength=1.0)
    filled.fetch_images("large", after)
    return filled


def jobs(seed: int, count: int) -> dict[str, tuple[dict, Job]]:
    """Return (prompt, job) by key."""
    made = {}
    for i, prompt in enumerate(prompts(seed, count)):
        key = f"own {i}: {prompt['text']}"
        made[key] = prompt, Job(key, graph(prompt, i).nodes)
    return made


def judge(prompt: dict, outputs: Outputs) -> tuple[dict, list[np.ndarray]]:
    """Return what is read of the small and of the large video."""
    videos = {name: pictures.decode_all(outputs[saved]) for name, saved in (("small", "frames"), ("large", "large"))}
    return {name: read(prompt, frames) for name, frames in videos.items()}, [
        np.concatenate(list(frames), 1) for frames in videos.values()
    ]


def read(prompt: dict, frames: np.ndarray) -> dict:
    reading = read_clip(frames)
    found = {"colour": reading.majority("colour"), "shape": reading.majority("shape"), "motion": reading.motion}
    return {name: found[name] == prompt[name] for name in READ} | {"roundness": roundness(frames, reading)}


def table(rows: list[dict]) -> str:
    """Return what is read right of small and large videos, and their distance from ideal shapes."""
    lines = []
    for name in ("small", "large"):
        errors = [row[name]["roundness"] for row in rows]
        shares = [share_text([row[name][part] for row in rows]) for part in READ]
        lines.append([name, *shares, mean_text(100 * each for each in errors if each is not None)])
    header = ("the pocket's own videos", *(f"{part} right" for part in READ), "distance from the ideal shape, %")
    return markdown(header, lines)
