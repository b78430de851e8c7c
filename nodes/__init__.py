"""The nodes of the pack, one module per topic."""

from comfy_api.latest import ComfyExtension, io

from . import (
    conditioning,
    layer_settings,
    optical_flow,
    prepare,
    sampling,
    schedules,
    second_pass,
    temporal_layers,
    training,
)

MODULES = (
    temporal_layers,
    layer_settings,
    conditioning,
    schedules,
    second_pass,
    sampling,
    optical_flow,
    prepare,
    training,
)


class EmuVideoExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [node for module in MODULES for node in module.NODES]
