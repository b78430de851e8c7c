"""A shipped graph for headless use, to which a test adds nodes by title."""

from __future__ import annotations

import json

from ..launcher.environment import ROOT
from ..pocket.shipped import INTERPOLATION_LAYERS


class ApiGraph:
    """nodes: what the API takes, number -> node; ids: title -> number."""

    def __init__(self, name: str):
        self.nodes: dict = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text("utf-8"))
        self.ids = {node["_meta"]["title"]: number for number, node in self.nodes.items()}

    def inputs(self, title: str) -> dict:
        return self.nodes[self.ids[title]]["inputs"]

    def link(self, title: str, output: int = 0) -> list:
        return [self.ids[title], output]

    def add(self, title: str, kind: str, **inputs) -> list:
        """A new node; returns the link to its first output."""
        self.ids[title] = str(len(self.nodes) + 100)
        self.nodes[self.ids[title]] = {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}
        return self.link(title)

    def add_interpolation_layers(self) -> list:
        """The shipped ones, loaded as the graph loads the video layers; returns the link to the MODEL."""
        loader = {**self.inputs("Load Temporal Layers"), "temporal_layers": INTERPOLATION_LAYERS.name}
        return self.add("Interpolation layers", "EmuVideoLoadTemporalLayers", **loader)

    def set_steps(self, steps: int) -> None:
        for node in self.nodes.values():
            if "steps" in node["inputs"]:
                node["inputs"]["steps"] = steps
