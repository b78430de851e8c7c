"""Time of the pocket's whole cascade: text, first frame, 8 frames, 37 frames, mp4.

The time is also given as a multiple of one pass of the plain UNet over one frame. That pass is measured as the
difference between 225 and 25 image steps without guidance on the same server. The first run, which loads the models, is
ignored.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

from ..evaluation.graph import Graph
from ..launcher import client, comfyui, server

GRAPH = Path(__file__).parent.parent / "workflows" / "api" / "text_to_video_cascade_pocket.json"
STEPS = 25, 225
REPEATS = 3


def seconds(url: str, graph: Graph) -> float:
    started = time.perf_counter()
    asyncio.run(client.execute(url, graph.nodes, lambda *_: None))
    return time.perf_counter() - started


def image_step(graph: Graph, steps: int) -> Graph:
    """Return the graph of the first frame, with one pass of the UNet per step."""
    own = graph.copy()
    sampler = own.id("KSampler")
    model = own.source(sampler, "model")
    kept = ("CheckpointLoaderSimple", "PrimitiveStringMultiline", "CLIPTextEncode", "EmptyLatentImage", "KSampler")
    own.remove(*{node["class_type"] for node in own.nodes.values()}.difference(kept))
    own.inputs(sampler).update(steps=steps, cfg=1.0)
    own.fetch_images("shown", own.add("decode", "VAEDecode", samples=[sampler, 0], vae=[model, 2]))
    return own


def main() -> None:
    graph = Graph.load(GRAPH)
    with server.running(comfyui.locate(), comfyui.make_base()) as running:
        seconds(running.url, graph.filled(None, seed=0))
        whole, passes = [], []
        for seed in range(1, REPEATS + 1):
            seeded = graph.filled(None, seed=seed)
            whole.append(seconds(running.url, seeded))
            few, many = (seconds(running.url, image_step(seeded, steps)) for steps in STEPS)
            passes.append((many - few) / (STEPS[1] - STEPS[0]))
    total, one = statistics.median(whole), statistics.median(passes)
    print(f"cascade {total:.1f} s, one plain pass {1000 * one:.1f} ms, ratio {total / one:.0f}")


if __name__ == "__main__":
    main()
