"""ComfyUI's own nodes, listed by their types, and called with their default values."""

from __future__ import annotations

import asyncio
import functools
import importlib
import itertools
import logging
from collections.abc import Iterator
from typing import Any


@functools.cache
def core_nodes() -> dict[str, Any]:
    """Return node id -> class of every node that comes with ComfyUI."""
    nodes: Any = importlib.import_module("nodes")  # ComfyUI's, not the pack's
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        asyncio.run(nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False))
    finally:
        logging.disable(before)
    return {name: node for name, node in nodes.NODE_CLASS_MAPPINGS.items() if not name.startswith("EmuVideo")}


def inputs(node: Any) -> dict[str, tuple[Any, dict]]:
    """Return name -> (type, options) of a node's inputs."""
    types = node.INPUT_TYPES()
    given = {**types.get("required", {}), **types.get("optional", {})}
    return {name: (each[0], each[1] if len(each) > 1 else {}) for name, each in given.items()}


def with_output(kind: str) -> list[str]:
    """Return the ids of core nodes that have an output of this type."""
    return sorted(name for name, node in core_nodes().items() if kind in (getattr(node, "RETURN_TYPES", ()) or ()))


def model_to_model() -> list[str]:
    """Return the ids of core nodes that take a MODEL and give one."""
    nodes = core_nodes()
    return [name for name in with_output("MODEL") if "MODEL" in [kind for kind, _ in inputs(nodes[name]).values()]]


def calls(name: str, **given: Any) -> Iterator[dict[str, Any]]:
    """Yield arguments of a node: defaults, `given` by type or name, and every combination of its lists of options."""
    arguments, lists = {}, {}
    for key, (kind, options) in inputs(core_nodes()[name]).items():
        if key in given or (isinstance(kind, str) and kind in given):
            arguments[key] = given.get(key, given.get(kind))
        elif isinstance(kind, list) or kind == "COMBO":
            lists[key] = kind if isinstance(kind, list) else options["options"]
        elif "default" in options or kind == "BOOLEAN":
            arguments[key] = options.get("default") or False if kind == "BOOLEAN" else options["default"]
    for values in itertools.product(*lists.values()):
        yield {**arguments, **dict(zip(lists, values, strict=True))}


def call(name: str, arguments: dict[str, Any]) -> Any:
    """Return the first output of a node of either API."""
    node = core_nodes()[name]
    if hasattr(node, "define_schema"):
        output = node.execute(**arguments)
        return getattr(output, "result", output)[0]
    return getattr(node(), node.FUNCTION)(**arguments)[0]
