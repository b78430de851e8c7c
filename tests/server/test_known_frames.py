"""A video is extended and then interpolated in two windows, all in one graph on a real server."""

from __future__ import annotations

import asyncio
import json

import av
from emu_video.launcher.client import execute, saved_files
from emu_video.launcher.environment import ROOT


def test_extended_and_interpolated_in_windows(server):
    graph = json.loads((ROOT / "workflows" / "api" / "text_to_video_pocket.json").read_text("utf-8"))
    ids = {node["_meta"]["title"]: number for number, node in graph.items()}

    def link(title: str, output: int = 0) -> list:
        return [ids[title], output]

    def add(title: str, kind: str, **inputs) -> None:
        ids[title] = str(len(graph) + 100)
        graph[ids[title]] = {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}

    def sample_and_join(name: str, frames: list) -> None:
        inputs = graph[ids["Emu Video Sampler"]]["inputs"]
        conditioning = {key: link(name, i) for i, key in enumerate(("positive", "image_only", "negative", "latent"))}
        add(f"{name}: sampler", "EmuVideoSampler", **{**inputs, **conditioning})
        add(f"{name}: decode", "VAEDecode", samples=link(f"{name}: sampler"), vae=link("Load Checkpoint", 2))
        add(
            f"{name}: join", "EmuVideoJoin", images=link(f"{name}: decode"), layout=link(name, 4), frames=frames
        )  # fmt: skip

    common = {
        "model": link("Load Temporal Layers"),
        "vae": link("Load Checkpoint", 2),
        "positive": link("Video prompt"),
        "negative": link("Null text"),
    }
    video = link("Decode video")
    add("Extend", "EmuVideoExtend", **common, video=video, frames=8, known=2)
    sample_and_join("Extend", video)
    video = link("Extend: join")
    settings = {"factor": 4, "margin": 4, "noise_level": 100, "seed": 0, "seam": "continuous"}
    add("Interpolate", "EmuVideoInterpolation", **common, frames=video, **settings)
    sample_and_join("Interpolate", video)
    graph[ids["Create Video"]]["inputs"].update(images=link("Interpolate: join"), fps=32)
    for node in graph.values():
        if "steps" in node["inputs"]:
            node["inputs"]["steps"] = 1

    outputs = asyncio.run(execute(server.url, graph, lambda *_: None))
    (file,) = saved_files(outputs, server.output)
    with av.open(str(file)) as saved:
        frames = list(saved.decode(video=0))
    assert len(frames) == 4 + 13 * 4 + 1 + 4  # 8 frames, 6 of the extension, and what lies around them
    assert (frames[0].width, frames[0].height) == (128, 128)
