"""Nodes saved before the input `guidance` existed keep their numbers, however they come into a graph."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SAMPLER = {"seed": 3, "control": "fixed", "steps": 20, "text_guidance": 7.5, "image_guidance": 2.0, "rescale": 0.1}
OLD = {
    "old sampler": ("EmuVideoSampler", [*SAMPLER.values(), 0.2]),
    "old guider": ("EmuVideoGuider", [7.5, 2.0, 0.1]),
}
NEW = {
    "new sampler": ("EmuVideoSampler", [*SAMPLER.values(), 0.2, "as trained"]),
    "new guider": ("EmuVideoGuider", [7.5, 2.0, 0.1, "as trained"]),
}
WIDGETS = """() => Object.fromEntries(window.app.graph.nodes.map(node =>
  [node.title, Object.fromEntries(node.widgets.map(widget => [widget.name, widget.value]))]))"""


def saved(nodes: dict[str, tuple[str, list]]) -> list[dict]:
    return [
        {
            "id": i, "type": kind, "title": title, "pos": [40 + 480 * (i % 2), 80 + 420 * (i // 2)], "size": [400, 360],
            "flags": {}, "order": i, "mode": 0, "inputs": [], "outputs": [], "properties": {}, "widgets_values": values,
        }
        for i, (title, (kind, values)) in enumerate(nodes.items())
    ]  # fmt: skip


LOAD = "graph => window.app.loadGraphData(graph)"
PASTE = "graph => { window.app.canvas._deserializeItems({ nodes: graph.nodes }, { position: [0, 0] }) }"
FRESH = """() => Object.fromEntries(['EmuVideoSampler', 'EmuVideoGuider'].map(type => {
  const node = window.LiteGraph.createNode(type); window.app.graph.add(node)
  return [type, node.widgets.find(widget => widget.name === 'guidance').value] }))"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", [LOAD, PASTE], ids=["load", "paste"])
def test_old_nodes_keep_their_numbers(server, page, way):
    page.goto(server.url)
    page.wait_for_function("window.app?.graph && !!window.LiteGraph.registered_node_types.EmuVideoSampler")
    page.wait_for_timeout(3000)
    page.evaluate(LOAD, {"version": 0.4, "nodes": [], "links": [], "groups": []})
    page.evaluate(way, {"version": 0.4, "nodes": saved(OLD | NEW), "links": [], "groups": []})
    page.wait_for_function(f"window.app.graph.nodes.length === {len(OLD | NEW)}")
    widgets = page.evaluate(WIDGETS)
    assert {title: values["guidance"] for title, values in widgets.items()} == dict.fromkeys(
        OLD, "as set"
    ) | dict.fromkeys(NEW, "as trained")
    for title, values in widgets.items():
        assert (values["text_guidance"], values["image_guidance"], values["guidance_rescale"]) == (7.5, 2.0, 0.1), title
    assert widgets["old sampler"]["seed"] == 3 and widgets["old sampler"]["eta"] == 0.2
    if folder := os.environ.get("SCREENSHOTS"):
        page.keyboard.press("Escape")  # the dialog of templates
        page.wait_for_timeout(1500)
        page.screenshot(path=Path(folder) / f"guidance {'load' if way == LOAD else 'paste'}.png")


@pytest.mark.timeout(600)
def test_fresh_nodes_are_as_trained(server, page):
    page.goto(server.url)
    page.wait_for_function("window.app?.graph && !!window.LiteGraph.registered_node_types.EmuVideoSampler")
    assert page.evaluate(FRESH) == {"EmuVideoSampler": "as trained", "EmuVideoGuider": "as trained"}
