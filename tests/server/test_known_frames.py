"""A video is extended and then interpolated in two windows, all in one graph on a real server."""

from __future__ import annotations

import asyncio

import av
from emu_video.launcher.client import execute, saved_files
from emu_video.tests.graphs import add_interpolation_layers, shipped


def test_extended_and_interpolated_in_windows(server):
    graph = shipped("text_to_video_pocket")
    link, add = graph.link, graph.add
    vae = link("Load Checkpoint", 2)

    def sample_and_join(name: str, model: list, frames: list) -> list:
        conditioning = {key: link(name, i) for i, key in enumerate(("positive", "image_only", "negative", "latent"))}
        inputs = {**graph.inputs("Emu Video Sampler"), **conditioning, "model": model}
        sampled = add(f"{name}: sampler", "EmuVideoSampler", **inputs)
        images = add(f"{name}: decode", "VAEDecode", samples=sampled, vae=vae)
        return add(f"{name}: join", "EmuVideoJoin", images=images, layout=link(name, 4), frames=frames)

    common = {"vae": vae, "positive": link("Video prompt"), "negative": link("Null text")}
    model, video = link("Load Temporal Layers"), link("Decode video")
    add("Extend", "EmuVideoExtend", **common, model=model, video=video, frames=8, known=2)
    video = sample_and_join("Extend", model, video)
    model = add_interpolation_layers(graph)
    settings = {"factor": 4, "margin": 4, "noise_level": 100, "seed": 0, "seam": "continuous"}
    add("Interpolate", "EmuVideoInterpolation", **common, model=model, frames=video, **settings)
    graph.inputs("Create Video").update(images=sample_and_join("Interpolate", model, video), fps=32)
    graph.set_everywhere(steps=1)

    outputs = asyncio.run(execute(server.url, graph.nodes, lambda *_: None))
    (file,) = saved_files(outputs, server.output)
    with av.open(str(file)) as saved:
        frames = list(saved.decode(video=0))
    assert len(frames) == 4 + 13 * 4 + 1 + 4  # 8 frames, 6 of the extension, and what lies around them
    assert (frames[0].width, frames[0].height) == (128, 128)
