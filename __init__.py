"""Emu Video for ComfyUI: text to video through a first frame and temporal layers on a frozen image model."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension

WEB_DIRECTORY = "./web"
OLDEST_COMFYUI = "0.16.3"


async def comfy_entrypoint() -> ComfyExtension:
    """Entry point called by ComfyUI. Imports are delayed so that torch-only packages can be imported without it."""
    _check_comfyui()
    from .host import folders, pocket
    from .nodes import EmuVideoExtension

    folders.register()
    folders.copy_input_files()
    pocket.register()
    return EmuVideoExtension()


def _check_comfyui() -> None:
    """Raise RuntimeError on an older ComfyUI, which prints the message and starts without the pack."""
    from comfyui_version import __version__ as present

    def numbers(version: str) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", version)[:3]]

    if numbers(present) < numbers(OLDEST_COMFYUI):
        raise RuntimeError(
            f"Emu Video needs ComfyUI {OLDEST_COMFYUI} or newer; this is {present}: update ComfyUI and start it again."
        )
