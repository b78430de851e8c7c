"""Write the templates: `workflows/NAME.json` for the browser and its twin in `workflows/api`.

python -m emu_video.docs.templates     (with COMFYUI_PATH, in the environment of the tests)

The three modules `..._graphs.py` describe the graphs, `notes` has their notes. This file lays them
out. A running ComfyUI says which inputs and outputs each node has.
"""

from __future__ import annotations

import json
import re
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..launcher import comfyui, server
from ..launcher.environment import ROOT
from .ui_to_api import ui_to_api

WORKFLOWS = ROOT / "workflows"
NOTES = ROOT / "docs" / "notes"
NOTE_WIDTH, COLUMN_WIDTH, GAP, PADDING = 290, 260, 18, 12
TITLE, SLOT, WIDGET, TEXT = 30, 20, 26, 60  # px: title bar, row of slots, widget, box of text
EXTRA = {"PreviewImage": 180, "SaveVideo": 220, "LoadImage": 180, "EmuVideoPrepareClips": 150}
"""Height in px that a node needs for its picture."""
GROUP_COLOURS = ("#3f789e", "#8A8", "#b06634", "#a1309b")
PROMPT_COLOURS = {"color": "#232", "bgcolor": "#353"}
SEEDS = ("seed", "noise_seed")
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3")


class Output(NamedTuple):
    """An output of a node, by name."""

    node: Node
    name: str


@dataclass(eq=False)
class Node:
    """A node of a template.

    Attributes:
        inputs: widget values and links; a Node stands for its first output. Other widgets keep their defaults.
        title: default: the node's display name.
        prompt: whether the user writes here; such nodes are green.
        files: {widget: address} of the model files that the front end offers to download.
        seed: what the front end does with the seed after a run.
        collapsed: whether the node begins as its title alone.
    """

    kind: str
    inputs: dict[str, Any] = field(default_factory=dict)
    title: str = ""
    prompt: bool = False
    files: dict[str, str] = field(default_factory=dict)
    folder: str = ""
    seed: str = "randomize"
    collapsed: bool = False

    def __getitem__(self, name: str) -> Output:
        return Output(self, name)


class Group(NamedTuple):
    """A titled frame around columns of nodes."""

    title: str
    columns: Sequence[Sequence[Node]]


class Template(NamedTuple):
    """name: of the card in the list of templates; `notes` has its note. rows: groups beside each other, per row."""

    name: str
    rows: Sequence[Sequence[Group]]


def file_name(name: str) -> str:
    """Return the name of the API file: "Text-to-Video-Pocket" -> text_to_video_pocket."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


class Builder:
    """Lays out one template."""

    def __init__(self, template: Template, info: dict[str, dict]):
        self.template, self.info = template, info
        self.note = (NOTES / f"{file_name(template.name)}.md").read_text("utf-8").strip()
        self.nodes = [node for row in template.rows for group in row for column in group.columns for node in column]
        self.ids = {id(node): number for number, node in enumerate(self.nodes, 2)}  # 1 is the note
        self.links: list[list] = []
        self.sources: dict[tuple[int, int], list[int]] = {}

    def build(self) -> dict:
        """Return the graph as the front end saves it."""
        inputs = {id(node): self._inputs(node) for node in self.nodes}
        nodes, groups, y = [], [], 0.0
        for row in self.template.rows:
            x, bottom = NOTE_WIDTH + 2 * GAP, y
            for group in row:
                left, top = x, y
                x += PADDING
                for column in group.columns:
                    below = y + TITLE + PADDING + TITLE
                    for node in column:
                        height = self._height(node)
                        nodes.append(self._node(node, inputs[id(node)], [x, below], [COLUMN_WIDTH, height]))
                        below += (0 if node.collapsed else height) + TITLE + GAP
                    bottom = max(bottom, below - TITLE)
                    x += COLUMN_WIDTH + GAP
                x += PADDING - GAP
                groups.append((group.title, [left, top, x - left, 0.0]))
                x += GAP
            for _, bounding in groups[-len(row) :]:
                bounding[3] = bottom - y
            y = bottom + GAP
        height = max(300.0, min(y - GAP - TITLE, 120 + 22 * sum(1 + len(line) // 44 for line in self.note.split("\n"))))
        note = {
            "id": 1, "type": "MarkdownNote", "pos": [0, TITLE], "size": [NOTE_WIDTH, height], "flags": {}, "order": 0,
            "mode": 0, "inputs": [], "outputs": [], "properties": {}, "widgets_values": [self.note],
            "title": "How this works", "color": "#432", "bgcolor": "#653",
        }  # fmt: skip
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, self.template.name)), "revision": 0,
            "last_node_id": len(nodes) + 1, "last_link_id": len(self.links), "nodes": [note, *nodes],
            "links": self.links,
            "groups": [
                {"id": i + 1, "title": title, "bounding": bounding, "color": GROUP_COLOURS[i % len(GROUP_COLOURS)],
                 "font_size": 24, "flags": {}}
                for i, (title, bounding) in enumerate(groups)
            ],
            "config": {}, "extra": {}, "version": 0.4,
        }  # fmt: skip

    def _declared(self, node: Node) -> list[tuple[str, Any, dict, bool]]:
        """Return (name, type, options, whether it is optional) of each input."""
        declared = self.info[node.kind]["input"]
        return [
            (name, spec[0], spec[1] if len(spec) > 1 else {}, part == "optional")
            for part in ("required", "optional")
            for name, spec in declared.get(part, {}).items()
        ]

    def _inputs(self, node: Node) -> tuple[list[dict], list[Any]]:
        """Return the slots and the values of the widgets of a node, and note its links."""
        slots, widgets, values = [], [], []
        unknown = node.inputs.keys() - {name for name, *_ in self._declared(node)}
        if unknown:
            raise ValueError(f"{node.kind} has no input {sorted(unknown)}.")
        for name, kind, options, optional in self._declared(node):
            given = node.inputs.get(name, options.get("default"))
            kind_name = "COMBO" if isinstance(kind, list) else kind
            is_widget = kind_name in WIDGETS and not options.get("forceInput")
            slot: dict[str, Any] = {"name": name, "type": kind_name}
            if is_widget:
                slot["widget"] = {"name": name}
                linked = isinstance(given, Node | Output)
                values.append(_default(kind, options) if linked or given is None else given)
                if name in SEEDS and options.get("control_after_generate"):
                    values.append(node.seed)
            elif optional:
                slot["shape"] = 7
            slot["link"] = self._link(node, name, kind_name)
            (widgets if is_widget else slots).append(slot)
            if options.get("image_upload"):
                widgets.append({"name": "upload", "type": "IMAGEUPLOAD", "widget": {"name": "upload"}, "link": None})
                values.append("image")
        all_slots = slots + widgets
        for position, slot in enumerate(all_slots):
            if slot["link"]:
                self.links[slot["link"] - 1][4] = position
        return all_slots, values

    def _link(self, node: Node, name: str, kind: str) -> int | None:
        """Note the link into an input and return its number; `_inputs` fills in the input's position."""
        given = node.inputs.get(name)
        if not isinstance(given, Node | Output):
            return None
        source = given if isinstance(given, Node) else given.node
        names = self.info[source.kind]["output_name"]
        output = 0 if isinstance(given, Node) else names.index(given.name)
        number = len(self.links) + 1
        source_id = self.ids[id(source)]
        made = self.info[source.kind]["output"][output]
        self.links.append([number, source_id, output, self.ids[id(node)], 0, made if made in kind.split(",") else kind])
        self.sources.setdefault((source_id, output), []).append(number)
        return number

    def _height(self, node: Node) -> int:
        slots = widgets = texts = 0
        for name, kind, options, _ in self._declared(node):
            if options.get("multiline"):
                texts += not isinstance(node.inputs.get(name), Node | Output)
            elif isinstance(kind, list) or kind in WIDGETS:
                widgets += 1 + (name in SEEDS and bool(options.get("control_after_generate")))
            else:
                slots += 1
        rows = max(slots, len(self.info[node.kind]["output"]))
        return 14 + SLOT * rows + WIDGET * widgets + TEXT * texts + EXTRA.get(node.kind, 0)

    def _node(self, node: Node, inputs: tuple[list[dict], list[Any]], position: list[float], size: list[float]) -> dict:
        described, number = self.info[node.kind], self.ids[id(node)]
        outputs = [
            {"name": name, "type": kind, "links": self.sources.get((number, i), [])}
            for i, (name, kind) in enumerate(zip(described["output_name"], described["output"], strict=True))
        ]
        properties: dict[str, Any] = {"Node name for S&R": node.kind}
        if node.files:
            properties["models"] = [
                {"name": node.inputs[widget], "url": address, "directory": node.folder}
                for widget, address in node.files.items()
            ]
        return {
            "id": number, "type": node.kind, "pos": position, "size": size,
            "flags": {"collapsed": True} if node.collapsed else {}, "order": number - 1, "mode": 0,
            "inputs": inputs[0], "outputs": outputs, "properties": properties, "widgets_values": inputs[1],
            "title": node.title or described["display_name"], **(PROMPT_COLOURS if node.prompt else {}),
        }  # fmt: skip


def _default(kind: Any, options: dict) -> Any:
    """Return the value that a fresh widget has."""
    if "default" in options:
        return options["default"]
    choices = kind if isinstance(kind, list) else options.get("options")
    if choices:
        return choices[0]["key"] if isinstance(choices[0], dict) else choices[0]
    return {"INT": 0, "FLOAT": 0.0, "BOOLEAN": False}.get(str(kind), "")


def write(template: Template, info: dict[str, dict]) -> None:
    """Write a template and its twin."""
    graph = Builder(template, info).build()
    for path, content in (
        (WORKFLOWS / f"{template.name}.json", graph),
        (WORKFLOWS / "api" / f"{file_name(template.name)}.json", ui_to_api(graph)),
    ):
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
        print(path)


def main() -> None:
    from . import public_template_graphs, template_graphs, training_template_graphs

    with tempfile.TemporaryDirectory() as folder:
        base = comfyui.make_base(Path(folder), Path(folder) / "output")
        with server.running(comfyui.locate(), base) as running:
            info = server.get_json(f"{running.url}/object_info")
    for room in (template_graphs, public_template_graphs, training_template_graphs):
        for template in room.TEMPLATES:
            write(template, info)


if __name__ == "__main__":
    from emu_video.docs import templates  # the descriptions' Node is this module's, not that of __main__

    templates.main()
