"""`run.py serve`: ComfyUI with the pack and its graph, in the browser."""

from __future__ import annotations

import argparse
import webbrowser

from . import comfyui, server

TEMPLATE = "Text-to-Video-Pocket"


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the arguments. Print help or an error and exit if necessary."""
    parser = argparse.ArgumentParser(prog="run.py serve", description="Open the text-to-video graph in the browser.")
    parser.add_argument("--port", type=int, default=8188, help="port of the server (default: 8188)")
    args = parser.parse_args(argv)
    if not 0 <= args.port < 2**16:
        parser.error(f"--port {args.port} is not a port. Choose a number from 1 to 65535, usually above 1023.")
    return args


def main(argv: list[str]) -> int:
    """Start ComfyUI and open the graph. The server runs until Ctrl-C."""
    args = parse(argv)
    base = comfyui.make_base()
    print("Starting ComfyUI", flush=True)
    with server.running(comfyui.locate(), base, port=args.port) as running:
        url = f"{running.url}/?template={TEMPLATE}&source={comfyui.PACK}"
        print(f"Open {url}\nCtrl-C stops it.", flush=True)
        webbrowser.open(url)
        running.wait()
