"""How long the pocket's whole cascade takes: text, first frame, 8 frames, 37 frames, mp4.

Also as a multiple of one pass of the plain UNet over one frame: the difference between image steps of 25 and of 225
steps without guidance, through the same server. The first run, which loads the models, is not counted.
"""

from __future__ import annotations

import asyncio
import copy
import json
import statistics
import time
from pathlib import Path

from ..launcher import client, comfyui, server

GRAPH = Path(__file__).parent.parent / "workflows" / "api" / "text_to_video_cascade_pocket.json"
STEPS = 25, 225
REPEATS = 3


def seconds(url: str, graph: dict) -> float:
    started = time.perf_counter()
    asyncio.run(client.execute(url, graph, lambda *_: None))
    return time.perf_counter() - started


def image_step(graph: dict, steps: int) -> dict:
    """The first frame alone, one pass of the UNet for each step."""
    kept = ("CheckpointLoaderSimple", "PrimitiveStringMultiline", "CLIPTextEncode", "EmptyLatentImage", "KSampler")
    own = {key: copy.deepcopy(node) for key, node in graph.items() if node["class_type"] in kept}
    (sampler,) = (key for key, node in own.items() if node["class_type"] == "KSampler")
    own[sampler]["inputs"] |= {"steps": steps, "cfg": 1.0}
    vae = [own[sampler]["inputs"]["model"][0], 2]
    own["decode"] = {"class_type": "VAEDecode", "inputs": {"samples": [sampler, 0], "vae": vae}}
    own["shown"] = {"class_type": "PreviewImage", "inputs": {"images": ["decode", 0]}}
    return own


def main() -> None:
    graph = json.loads(GRAPH.read_text())
    with server.running(comfyui.find(None) or comfyui.fetch(), comfyui.make_base()) as running:
        seconds(running.url, client.fill(graph, None, None, seed=0))
        whole, passes = [], []
        for seed in range(1, REPEATS + 1):
            seeded = client.fill(graph, None, None, seed)
            whole.append(seconds(running.url, seeded))
            few, many = (seconds(running.url, image_step(seeded, steps)) for steps in STEPS)
            passes.append((many - few) / (STEPS[1] - STEPS[0]))
    total, one = statistics.median(whole), statistics.median(passes)
    print(f"cascade {total:.1f} s, one plain pass {1000 * one:.1f} ms, ratio {total / one:.0f}")


if __name__ == "__main__":
    main()
