"""`run.py serve`: ComfyUI with the pack and its graph, in the browser."""

from __future__ import annotations

import argparse
import time
import webbrowser

from . import comfyui, server

TEMPLATE = "Text-to-Video-Pocket"


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the arguments. Print help or an error and exit if necessary."""
    parser = argparse.ArgumentParser(prog="run.py serve", description="Open the text-to-video graph in the browser.")
    parser.add_argument("--port", type=int, default=8188, help="port of the server (default: 8188)")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Start ComfyUI and open the graph. The server runs until Ctrl-C."""
    args = parse(argv)
    base = comfyui.make_base()
    print("Starting ComfyUI", flush=True)
    with server.running(comfyui.locate(), base, port=args.port) as running:
        url = f"{running.url}/?template={TEMPLATE}&source={comfyui.PACK}"
        print(f"Open {url}\nCtrl-C stops it.", flush=True)
        webbrowser.open(url)
        while True:
            time.sleep(3600)
