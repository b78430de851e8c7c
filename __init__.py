"""Emu Video for ComfyUI: text to video through a first frame and temporal layers on a frozen image model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> ComfyExtension:
    """ComfyUI's door. The imports wait until it knocks, so the torch-only rooms import without ComfyUI."""
    from .host import folders, pocket
    from .nodes import EmuVideoExtension

    folders.register()
    pocket.register()
    return EmuVideoExtension()
