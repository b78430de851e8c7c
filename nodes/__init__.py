"""The nodes a user sees, one module per theme."""

from comfy_api.latest import ComfyExtension, io

from . import conditioning, interpolation, sampling, temporal_layers


class EmuVideoExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [*temporal_layers.NODES, *conditioning.NODES, *sampling.NODES, *interpolation.NODES]
