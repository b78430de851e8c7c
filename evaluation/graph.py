"""Graphs in ComfyUI's API format: load one, change it, and read its frames."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from ..launcher import client

VIDEO_OUTPUTS = "CreateVideo", "SaveVideo"
"""Classes of the nodes that encode frames into a video file."""


class Graph:
    """Nodes of a graph: id -> {"class_type", "inputs", "_meta": {"title"}}.

    Methods that take a `name` accept a node's title, class or id, in this order. They raise ValueError when the name
    fits no node, or several.
    """

    def __init__(self, nodes: dict[str, dict]):
        self.nodes = nodes

    @classmethod
    def load(cls, path: Path) -> Graph:
        """Read a graph that was saved with Export (API).

        Raises:
            ValueError: the file is not JSON, or not a graph in API format.
        """
        try:
            nodes = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{path} cannot be read as a graph: {error}. Save the graph with Workflow > Export (API)."
            ) from error
        if isinstance(nodes, dict) and "nodes" in nodes:
            raise ValueError(
                f"{path} is a graph of the editor. Save it with Workflow > Export (API) and give that file."
            )
        if not isinstance(nodes, dict) or not nodes or not all(map(_is_node, nodes.values())):
            raise ValueError(f"{path} is not a graph in API format: every entry needs class_type and inputs.")
        return cls(nodes)

    def copy(self) -> Graph:
        return Graph(copy.deepcopy(self.nodes))

    def find(self, kind: str) -> list[str]:
        """Return the ids of all nodes of a class."""
        return [key for key, node in self.nodes.items() if node["class_type"] == kind]

    def titled(self, title: str) -> list[str]:
        """Return the ids of all nodes with a title."""
        return [key for key, node in self.nodes.items() if node.get("_meta", {}).get("title") == title]

    def matches(self, name: str) -> list[str]:
        """Return the ids of the nodes with this title, or else of this class, or else with this id."""
        return self.titled(name) or self.find(name) or [key for key in self.nodes if key == name]

    def id(self, name: str) -> str:
        found = self.matches(name)
        if len(found) != 1:
            which = f"has {len(found)} nodes" if found else "has no node"
            raise ValueError(f"The graph {which} with the title, class or id {name!r}. Its nodes: {self.titles()}.")
        return found[0]

    def titles(self) -> str:
        return ", ".join(node.get("_meta", {}).get("title") or node["class_type"] for node in self.nodes.values())

    def inputs(self, name: str) -> dict[str, Any]:
        return self.nodes[self.id(name)]["inputs"]

    def link(self, name: str, output: int = 0) -> list:
        return [self.id(name), output]

    def source(self, name: str, slot: str) -> str:
        """Return the id of the node that is connected to an input."""
        value: Any = self.inputs(name).get(slot)
        if value is None or not is_link(value):
            raise ValueError(f"The input {slot!r} of {name!r} is not connected. Connect it and export the graph again.")
        return value[0]

    def add(self, title: str, kind: str, **inputs) -> list:
        """Add a node with `title` as its id; return the link to its first output."""
        if title in self.nodes:
            raise ValueError(f"The graph already has a node with the id {title!r}.")
        self.nodes[title] = {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}
        return [title, 0]

    def remove(self, *kinds: str) -> None:
        """Delete all nodes of these classes."""
        for key in [key for key, node in self.nodes.items() if node["class_type"] in kinds]:
            del self.nodes[key]

    def set_everywhere(self, **widgets) -> None:
        """Set widgets on all nodes that have them and where nothing is connected."""
        for node in self.nodes.values():
            node["inputs"] |= {
                k: v for k, v in widgets.items() if k in node["inputs"] and not is_link(node["inputs"][k])
            }

    def change(self, target: str, value: Any) -> None:
        """Set the widget `target`, written as "node.widget", on every node with that title or class.

        Raises:
            ValueError: the graph has no such node, or a matching node has no such input.
        """
        name, _, widget = target.rpartition(".")
        found = self.matches(name)
        if not found:
            raise ValueError(f"The graph has no node with the title, class or id {name!r}. Its nodes: {self.titles()}.")
        for key in found:
            inputs = self.nodes[key]["inputs"]
            if widget not in inputs:
                raise ValueError(f"{name!r} has no input {widget!r}. Its inputs: {', '.join(inputs)}.")
            inputs[widget] = value

    def filled(self, prompt: str | None, image_prompt: str | None = None, seed: int | None = None) -> Graph:
        """Return a copy with other texts and seeds; None keeps the graph's own. See `launcher.client.fill`."""
        return Graph(client.fill(self.nodes, prompt, image_prompt, seed))

    def fetch_images(self, title: str, images: list) -> None:
        """Add a node that writes `images`, a link, as lossless files to the server's temporary folder."""
        self.add(title, "PreviewImage", images=images)

    def fetch_frames(self, title: str = "frames") -> float | None:
        """Replace the nodes that save a video by a node that saves its frames; return the frame rate.

        If the graph does not make exactly one video at a fixed frame rate, it is unchanged and the result is None.
        """
        made = self.find("CreateVideo")
        if len(made) != 1:
            return None
        inputs = self.nodes[made[0]]["inputs"]
        if is_link(inputs["fps"]) or not is_link(inputs["images"]):
            return None
        self.remove(*VIDEO_OUTPUTS)
        self.fetch_images(title, inputs["images"])
        return float(inputs["fps"])


def is_link(value: Any) -> bool:
    """Return whether an input's value is a link [node id, output] instead of a widget's value."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def _is_node(node: Any) -> bool:
    return isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)
