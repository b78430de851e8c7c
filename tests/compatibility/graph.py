"""The smoke graph: text to video, the same video by stock sampling nodes, and two kinds of new frames between."""

from __future__ import annotations

from emu_video.tests.graphs import add_interpolation_layers, shipped

SEED = 7
FRAMES = {"all_in_one": 8, "in_parts": 8, "interpolated": 37, "optical_flow": 15}
"""File that the graph saves -> frames in it."""


def smoke_graph() -> dict:
    graph = shipped("text_to_video_pocket")
    link, add = graph.link, graph.add
    model, vae = link("Load Temporal Layers"), link("Load Checkpoint", 2)
    graph.inputs("Save Video")["filename_prefix"] = "all_in_one"
    sampler = graph.inputs("Emu Video Sampler")
    sampler["seed"] = SEED

    def save(name: str, images: list) -> None:
        video = add(f"{name}: video", "CreateVideo", images=images, fps=8)
        add(f"{name}: save", "SaveVideo", video=video, filename_prefix=name, format="mp4", codec="auto")

    def decode(name: str, samples: list) -> list:
        return add(f"{name}: decode", "VAEDecode", samples=samples, vae=vae)

    weights = {key: sampler[key] for key in ("text_guidance", "image_guidance", "guidance_rescale")}
    conds = {key: sampler[key] for key in ("positive", "image_only", "negative")}
    parts = {
        "noise": add("Noise", "RandomNoise", noise_seed=SEED),
        "guider": add("Guider", "EmuVideoGuider", model=model, **conds, **weights),
        "sampler": add("DDIM", "EmuVideoDDIM", eta=sampler["eta"]),
        "sigmas": add("Steps", "EmuVideoTrailingSteps", model=model, steps=sampler["steps"]),
    }
    in_parts = add("In parts", "SamplerCustomAdvanced", **parts, latent_image=sampler["latent"])
    save("in_parts", decode("in_parts", in_parts))

    frames = link("Decode video")
    texts = {"positive": link("Video prompt"), "negative": link("Null text")}
    settings = {"factor": 4, "margin": 4, "noise_level": 100, "seed": SEED, "seam": "continuous"}
    fine = add_interpolation_layers(graph)
    add("Interpolate", "EmuVideoInterpolation", model=fine, vae=vae, frames=frames, **texts, **settings)
    windows = {key: link("Interpolate", i) for i, key in enumerate((*conds, "latent"))}
    images = decode("Windows", add("Sample windows", "EmuVideoSampler", **{**sampler, "model": fine, **windows}))
    save("interpolated", add("Join", "EmuVideoJoin", images=images, layout=link("Interpolate", 4), frames=frames))
    save("optical_flow", add("Optical flow", "EmuVideoInterpolateFlow", images=frames, factor=2))
    graph.set_everywhere(steps=2)
    return graph.nodes
