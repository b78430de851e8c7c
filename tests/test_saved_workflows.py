"""What users' saved workflows and API prompts rely on: node ids, inputs and outputs of 0.1.0 stay as they were.

`saved_nodes.json` was written from commit a323cc4. It never shrinks: a renamed node or input keeps its old name, or
goes through ComfyUI's node replacement.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

SAVED: dict[str, dict] = json.loads(Path(__file__).with_name("saved_nodes.json").read_text("utf-8"))
NUMBERS = {"INT", "FLOAT", "BOOLEAN", "STRING", "COMBO"}
"""Types that the front end draws as widgets, whose values it saves by position."""


def describe(node: type) -> dict[str, Any]:
    """Return what a saved workflow depends on, from what ComfyUI's API lists for the node."""
    info = node.GET_NODE_INFO_V1()  # type: ignore[attr-defined]
    inputs = {}
    for group in ("required", "optional"):
        for name, (kind, options) in info["input"].get(group, {}).items():
            entry = {"type": kind, "required": group == "required"}
            if "default" in options:
                entry["default"] = options["default"]
            files = any(str(option).endswith((".safetensors", ".png")) for option in options.get("options", []))
            if kind == "COMBO" and not files:
                entry["options"] = options["options"]
            inputs[name] = entry
    return {"inputs": inputs, "outputs": info["output"]}


def widgets(inputs: dict[str, dict]) -> list[str]:
    return [name for name, entry in inputs.items() if entry["type"] in NUMBERS]


@pytest.mark.parametrize("node", SAVED)
def test_saved_node_still_fits(pack, node):
    assert node in pack, "a saved workflow has this node"
    saved, present = SAVED[node], describe(pack[node])
    for name, entry in saved["inputs"].items():
        now = present["inputs"].get(name)
        assert now, f"{name}: a saved workflow sets this input"
        assert set(entry["type"].split(",")) <= set(now["type"].split(",")), name
        assert set(entry.get("options", [])) <= set(now.get("options", [])), name
        assert entry["required"] or not now["required"], f"{name}: an API prompt may leave it out"
        if not entry["required"]:
            assert entry.get("default") == now.get("default"), f"{name}: an API prompt without it changes its result"
    new = {name: entry for name, entry in present["inputs"].items() if name not in saved["inputs"]}
    assert not [name for name, entry in new.items() if entry["required"]], "API prompts lack these inputs"
    before = widgets(saved["inputs"])
    assert widgets(present["inputs"])[: len(before)] == before, "saved values have positions: add new widgets last"
    assert present["outputs"][: len(saved["outputs"])] == saved["outputs"], "links name outputs by position"
