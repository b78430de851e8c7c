"""run.py train as a process that can be killed: a fork of one that has imported everything, which saves time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence

import comfy.cli_args
import torch

comfy.cli_args.args.cpu = True  # before any other module of ComfyUI is imported
from emu_video.host import train_command, training_session  # noqa: E402, F401  (the command imports the second later)

CAN_FORK = "forkserver" in multiprocessing.get_all_start_methods()


def started(arguments: Sequence[str]) -> multiprocessing.Process:
    """Start the command with these arguments."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_run, args=(list(arguments),))
    process.start()
    return process  # pyright: ignore[reportReturnType]


def _run(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    train_command.main(arguments)
