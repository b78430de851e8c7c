"""ComfyUI and the pack in this process, for kinds of fuzz that need them."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import emu_video
import torch
from emu_video.launcher.environment import ROOT


def start(folder: Path) -> dict[str, Any]:
    """Load ComfyUI on the CPU, with its outputs in `folder`. Return node id -> class of the pack's nodes."""
    sys.path[:] = [each for each in sys.path if Path(each or ".").resolve() != ROOT]  # our `nodes` hides ComfyUI's
    conftest = importlib.import_module("emu_video.tests.conftest")
    if conftest.COMFYUI is None:
        raise SystemExit("No ComfyUI found: set COMFYUI_PATH to its folder, or run `python run.py test`.")
    conftest.use_comfyui()
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)  # refusals are expected, and faults are printed
    import folder_paths

    for kind in ("output", "temp", "user"):
        (folder / kind).mkdir()
        getattr(folder_paths, f"set_{kind}_directory")(str(folder / kind))

    async def load() -> dict[str, Any]:
        extension = await emu_video.comfy_entrypoint()
        await extension.on_load()
        return {node.GET_SCHEMA().node_id: node for node in await extension.get_node_list()}

    pack = asyncio.run(load())
    importlib.import_module("nodes").NODE_CLASS_MAPPINGS.update(pack)
    return pack


def executor() -> Any:
    """Return ComfyUI's executor of prompts, without a server."""
    import execution
    import server

    silent = SimpleNamespace(
        client_id=None, last_node_id=None, last_prompt_id=None, sockets_metadata={},
        send_sync=lambda *_: None, send_progress_text=lambda *_: None, add_on_prompt_handler=lambda *_: None,
    )  # fmt: skip
    server.PromptServer.instance = silent  # type: ignore[assignment]
    arguments = {"lru": 0, "ram": 0, "ram_inactive": 0}
    return execution.PromptExecutor(silent, cache_type=execution.CacheType.CLASSIC, cache_args=arguments)
