"""demo: text to a short video. serve: ComfyUI with the graph in the browser. test: the tests. layers: what a file is.

The first run makes all it needs inside this folder. Needs Python 3.10 to 3.13 and a network connection.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
import webbrowser
from pathlib import Path

from launcher import comfyui, environment, server
from launcher.environment import ROOT, Failed

TEMPLATE = "text_to_video_cascade_pocket"
POCKET = {
    "make": "make",
    "gates": "evaluate.gates",
    "measure": "evaluate.text_to_video",
    "measure_interpolation": "evaluate.interpolation",
    "measure_first_last": "evaluate.first_last",
    "measure_extension": "evaluate.extension",
}
"""Task of `run.py pocket` -> its module below pocket."""

WORKFLOW = ROOT / "workflows" / "api" / f"{TEMPLATE}.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="make a video from a prompt and print its path")
    demo.add_argument("prompt", help='what is seen and how it moves, like "a red circle moving right"')
    demo.add_argument("--image-prompt", help="what the first frame shows (default: the prompt)")
    demo.add_argument("--seed", type=int, help="another number makes another video")
    serve = commands.add_parser("serve", help="open the graph in the browser")
    serve.add_argument("--port", type=int, default=8188)
    test = commands.add_parser("test", help="run the tests; further arguments go to pytest")
    pocket = commands.add_parser(
        "pocket", help="remake the pocket's weights, look at them between stages, or measure them"
    )
    pocket.add_argument("task", choices=POCKET)
    commands.add_parser(
        "layers", add_help=False, help="say what a file of temporal layers is, and save it in the pack's own format"
    )
    for command in (demo, serve, test, pocket):
        command.add_argument(
            "--comfyui", metavar="DIR", help="your own ComfyUI (default: COMFYUI_PATH, or one is fetched)"
        )
    args, rest = parser.parse_known_args()
    if rest and args.command not in ("test", "pocket", "layers"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")

    own = comfyui.find(getattr(args, "comfyui", None))
    environment.ensure(test=args.command in ("test", "pocket"), comfyui=own)
    if not environment.inside():
        return environment.again_inside(Path(__file__))
    folder = own or comfyui.fetch()
    if args.command == "demo":
        return run_demo(folder, args.prompt, args.image_prompt, args.seed)
    if args.command == "serve":
        return run_serve(folder, args.port)
    if args.command in ("pocket", "layers"):
        module = f"pocket.{POCKET[args.task]}" if args.command == "pocket" else "temporal_layers.formats"
        return subprocess.call([sys.executable, "-m", f"emu_video.{module}", *rest], env=comfyui.importable(folder))
    return run_tests(folder, rest)


def run_demo(folder: Path, prompt: str, image_prompt: str | None, seed: int | None) -> int:
    import asyncio

    from launcher import client

    workflow = client.fill(json.loads(WORKFLOW.read_text()), prompt, image_prompt, seed)
    print("Starting ComfyUI", flush=True)
    with server.running(folder, comfyui.make_base()) as running:
        print("Running the workflow", flush=True)
        progress = client.Progress()
        outputs = asyncio.run(client.execute(running.url, workflow, progress))
        progress.end()
        files = client.saved_files(outputs, running.output)
        for warning in running.warnings():
            print(warning, flush=True)
    if not files:
        raise Failed(f"The workflow saved no video. Look into {running.log}.")
    print(files[-1])
    return 0


def run_serve(folder: Path, port: int) -> int:
    base = comfyui.make_base()
    print("Starting ComfyUI", flush=True)
    with server.running(folder, base, port=port) as running:
        url = f"{running.url}/?template={TEMPLATE}&source={comfyui.PACK}"
        print(f"Open {url}\nCtrl-C stops it.", flush=True)
        webbrowser.open(url)
        while True:
            time.sleep(3600)


def run_tests(folder: Path, rest: list[str]) -> int:
    env = environment.child_environment() | {"COMFYUI_PATH": str(folder)}
    return subprocess.call([sys.executable, "-m", "pytest", *rest], cwd=ROOT, env=env)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a server is stopped then, too
    try:
        sys.exit(main())
    except Failed as failure:
        sys.exit(f"\nrun.py: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
