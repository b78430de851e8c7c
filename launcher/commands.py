"""The commands of run.py. Standard library only, because run.py reads this before the environment exists."""

from __future__ import annotations

import importlib
import os
import runpy
import sys
from pathlib import Path
from typing import NamedTuple

from . import comfyui


class Command(NamedTuple):
    """One command of run.py.

    Args:
        help: Its line in `run.py --help`.
        module: Module below `emu_video`. Modules of this package have `parse(argv)` and `main(argv)`. Others run as
        with
            `python -m`, and can import ComfyUI.
        packages: Further sets of pinned packages: `launcher/requirements-<set>.txt`.
    """

    help: str
    module: str
    packages: tuple[str, ...] = ()


COMMANDS = {
    "demo": Command("make a video from a prompt and print its path", "launcher.demo"),
    "serve": Command("open ComfyUI with the text-to-video graph in the browser", "launcher.serve", ("train",)),
    "prepare": Command("make a dataset for training from a folder of videos", "host.prepare_command", ("train",)),
    "train": Command("train temporal layers on prepared clips", "host.train_command", ("train",)),
    "evaluate": Command("compare graphs or folders of videos with metrics and side by side", "evaluation"),
    "judge": Command("let people compare two folders of videos, blindly", "evaluation.juice", ("evaluate",)),
    "ablations": Command("repeat the paper's ablations with the pocket", "pocket.ablations", ("evaluate", "plot")),
    "pocket make": Command("train every weight of the pocket model", "pocket.make"),
    "pocket export": Command("export trained weights as the files of the package", "pocket.stages.export"),
    "pocket gates": Command("check the pocket model between two stages", "pocket.evaluate.gates"),
    "pocket measure": Command("measure the pocket model's videos", "pocket.evaluate.text_to_video"),
    "pocket measure_interpolation": Command("measure its interpolation", "pocket.evaluate.interpolation"),
    "pocket measure_first_last": Command("measure videos between two frames", "pocket.evaluate.first_last"),
    "pocket measure_extension": Command("measure extended videos", "pocket.evaluate.extension"),
    "pocket judge": Command("let the reader judge two folders of its videos", "pocket.evaluate.judge", ("evaluate",)),
    "pocket judge_pairs": Command(
        "make pairs of videos to compare the reader with people", "pocket.evaluate.judge_pairs"
    ),
    "pocket measure_super_resolution": Command("measure its super-resolution", "pocket.evaluate.super_resolution"),
    "pocket measure_second_pass": Command("measure what a second pass keeps", "pocket.evaluate.second_pass"),
    "pocket laws": Command("reproduce known laws on the shipped weights", "pocket.evaluate.laws", ("plot",)),
    "pocket own_motion_clips": Command("write videos of a motion, to train on", "pocket.evaluate.own_motion_clips"),
    "pocket measure_own_motion": Command("measure layers trained on such videos", "pocket.evaluate.own_motion"),
    "layers": Command("identify a file of temporal layers, or convert it", "temporal_layers.formats"),
    "test": Command(
        "run the tests; its arguments go to pytest", "launcher.run_tests", ("train", "evaluate", "plot", "test")
    ),
}
"""Name of one or two words -> command."""

USAGE = """usage: run.py COMMAND [arguments] [--comfyui DIR]

{commands}

`run.py COMMAND --help` lists the command's own arguments. --comfyui DIR, or COMFYUI_PATH, names
your own ComfyUI; without it run.py downloads one. Everything is written inside this folder."""


def take_comfyui(argv: list[str]) -> Path | None:
    """Remove `--comfyui DIR` from the arguments and pass it on in COMFYUI_PATH.

    Returns:
        The user's own ComfyUI, or None if there is none.

    Raises:
        LauncherError: The folder is not a ComfyUI.
    """
    for i, argument in enumerate(argv):
        option, equals, folder = argument.partition("=")
        if option == "--comfyui":
            if not equals and i + 1 == len(argv):
                _exit_with_usage("--comfyui needs a folder.")
            os.environ["COMFYUI_PATH"] = folder if equals else argv[i + 1]
            del argv[i : i + (1 if equals else 2)]
            break
    return comfyui.find()


def split(argv: list[str]) -> tuple[str, list[str]]:
    """Return the command's name and its arguments. Print all commands and exit if no command is given."""
    if not argv or argv[0] in ("-h", "--help"):
        print(usage(COMMANDS))
        sys.exit(0 if argv else 2)
    for words in (2, 1):
        name = " ".join(argv[:words])
        if name in COMMANDS and len(argv) >= words:
            return name, argv[words:]
    group = {name: command for name, command in COMMANDS.items() if name.startswith(argv[0] + " ")}
    if not group:
        _exit_with_usage(f"there is no command {argv[0]!r}.")
    if len(argv) > 1 and argv[1] not in ("-h", "--help"):
        _exit_with_usage(f"there is no command {argv[0]!r} {argv[1]!r}.", group)
    print(usage(group))
    sys.exit(0 if len(argv) > 1 else 2)


def usage(commands: dict[str, Command]) -> str:
    """Return the text of `run.py --help`: one line for each command."""
    width = max(map(len, commands))
    return USAGE.format(commands="\n".join(f"  {name:{width}}  {command.help}" for name, command in commands.items()))


def check(name: str, arguments: list[str]) -> None:
    """Print help or a usage error now if the command's arguments can be read without the environment."""
    module = COMMANDS[name].module
    if module.startswith("launcher."):
        importlib.import_module(f".{module.removeprefix('launcher.')}", __package__).parse(arguments)


def run(name: str, arguments: list[str]) -> int:
    """Run the command in this process, which must run in the environment. Return its exit code."""
    module = COMMANDS[name].module
    if module.startswith("launcher."):
        return importlib.import_module(f".{module.removeprefix('launcher.')}", __package__).main(arguments)
    folder = comfyui.locate()
    os.environ.update(comfyui.importable(folder))
    sys.path.insert(0, str(folder))
    sys.argv = [f"run.py {name}", *arguments]
    runpy.run_module(f"emu_video.{module}", run_name="__main__")
    return 0


def _exit_with_usage(problem: str, commands: dict[str, Command] = COMMANDS) -> None:
    print(f"{usage(commands)}\n\nrun.py: {problem}", file=sys.stderr)
    sys.exit(2)
