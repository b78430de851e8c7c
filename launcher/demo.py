"""`run.py demo`: text to a short video."""

from __future__ import annotations

import argparse
import asyncio
import json
import random

from . import comfyui, server
from .environment import ROOT, LauncherError

WORKFLOW = ROOT / "workflows" / "api" / "text_to_video_super_resolution_pocket.json"


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the arguments. Print help or an error and exit if necessary."""
    parser = argparse.ArgumentParser(prog="run.py demo", description="Make a video from a prompt and print its path.")
    parser.add_argument("prompt", help='what the video shows and how it moves, for example "a red circle moving right"')
    parser.add_argument("--image-prompt", help="what the first frame shows (default: the prompt)")
    parser.add_argument("--seed", type=int, help="seed of the video (default: a random one, which is printed)")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Start ComfyUI, run the graph, stop ComfyUI, and print the path of the video."""
    from . import client

    args = parse(argv)
    seed = random.randrange(2**32) if args.seed is None else args.seed
    workflow = json.loads(WORKFLOW.read_text("utf-8"))
    workflow = client.fill(workflow, args.prompt, args.image_prompt, seed)
    print("Starting ComfyUI", flush=True)
    with server.running(comfyui.locate(), comfyui.make_base()) as running:
        print(f"Running the workflow with seed {seed}", flush=True)
        progress = client.Progress()
        outputs = asyncio.run(client.execute(running.url, workflow, progress))
        progress.end()
        files = client.saved_files(outputs, running.output)
        for warning in running.warnings():
            print(warning, flush=True)
    if not files:
        raise LauncherError(f"The workflow saved no video. The log {running.log} may say why.")
    print(files[-1])
    return 0
