"""The shipped graphs, for tests that run them on a server."""

from __future__ import annotations

from emu_video.evaluation.graph import Graph
from emu_video.launcher.environment import ROOT
from emu_video.pocket.shipped import INTERPOLATION_LAYERS


def shipped(name: str) -> Graph:
    return Graph.load(ROOT / "workflows" / "api" / f"{name}.json")


def add_interpolation_layers(graph: Graph) -> list:
    """Load the shipped interpolation layers as the graph loads the video layers; return the link to the MODEL."""
    loader = {**graph.inputs("Load Temporal Layers"), "temporal_layers": INTERPOLATION_LAYERS.name}
    return graph.add("Interpolation layers", "EmuVideoLoadTemporalLayers", **loader)
