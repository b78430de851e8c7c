"""The smoke graph: text to video, the same video by stock sampling nodes, and two kinds of new frames between."""

from __future__ import annotations

import json

from emu_video.launcher.environment import ROOT

SEED = 7
STEPS = 2
FRAMES = {"all_in_one": 8, "in_parts": 8, "interpolated": 37, "optical_flow": 15}
"""File that the graph saves -> frames in it."""


def smoke_graph() -> dict:
    graph = json.loads((ROOT / "workflows" / "api" / "text_to_video_pocket.json").read_text("utf-8"))
    ids = {node["_meta"]["title"]: number for number, node in graph.items()}

    def link(title: str, output: int = 0) -> list:
        return [ids[title], output]

    def add(title: str, kind: str, **inputs) -> None:
        ids[title] = str(len(graph) + 100)
        graph[ids[title]] = {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}

    def save(name: str, images: list) -> None:
        add(f"{name}: video", "CreateVideo", images=images, fps=8)
        video = link(f"{name}: video")
        add(f"{name}: save", "SaveVideo", video=video, filename_prefix=name, format="mp4", codec="auto")

    def decode(name: str, samples: list) -> list:
        add(f"{name}: decode", "VAEDecode", samples=samples, vae=vae)
        return link(f"{name}: decode")

    model, vae = link("Load Temporal Layers"), link("Load Checkpoint", 2)
    graph[ids["Save Video"]]["inputs"]["filename_prefix"] = "all_in_one"
    sampler = graph[ids["Emu Video Sampler"]]["inputs"]
    sampler["seed"] = SEED

    weights = {key: sampler[key] for key in ("text_guidance", "image_guidance", "guidance_rescale")}
    conds = {key: sampler[key] for key in ("positive", "image_only", "negative")}
    add("Guider", "EmuVideoGuider", model=model, **conds, **weights)
    add("DDIM", "EmuVideoDDIM", eta=0.0)
    add("Steps", "EmuVideoTrailingSteps", model=model, steps=STEPS)
    add("Noise", "RandomNoise", noise_seed=SEED)
    parts = {"noise": "Noise", "guider": "Guider", "sampler": "DDIM", "sigmas": "Steps"}
    links = {key: link(title) for key, title in parts.items()}
    add("In parts", "SamplerCustomAdvanced", **links, latent_image=sampler["latent"])
    save("in_parts", decode("in_parts", link("In parts")))

    frames = link("Decode video")
    texts = {"positive": link("Video prompt"), "negative": link("Null text")}
    settings = {"factor": 4, "margin": 4, "noise_level": 100, "seed": SEED, "seam": "continuous"}
    add("Interpolate", "EmuVideoInterpolation", model=model, vae=vae, frames=frames, **texts, **settings)
    windows = {key: link("Interpolate", i) for i, key in enumerate((*conds, "latent"))}
    add("Sample windows", "EmuVideoSampler", **{**sampler, **windows})
    images = decode("Windows", link("Sample windows"))
    add("Join", "EmuVideoJoin", images=images, layout=link("Interpolate", 4), frames=frames)
    save("interpolated", link("Join"))

    add("Optical flow", "EmuVideoInterpolateFlow", images=frames, factor=2)
    save("optical_flow", link("Optical flow"))
    for node in graph.values():
        if "steps" in node["inputs"]:
            node["inputs"]["steps"] = STEPS
    return graph
