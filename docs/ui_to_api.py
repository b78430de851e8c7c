"""Convert a saved graph into the API form that ComfyUI executes, as the front end does when Run is pressed."""

from __future__ import annotations

NOTES = {"MarkdownNote", "Note"}
CONTROLS = {"fixed", "increment", "decrement", "randomize"}
"""What the front end does to a seed after a run: a separate widget that follows the seed's."""
NOT_SENT = {"upload"}


def ui_to_api(graph: dict) -> dict:
    """UI graph (a list of nodes, each with its widgets' values in order, and a list of links) -> node id -> node."""
    links = {link[0]: [str(link[1]), link[2]] for link in graph["links"]}
    return {str(node["id"]): _node(node, links) for node in graph["nodes"] if node["type"] not in NOTES}


def _node(node: dict, links: dict[int, list]) -> dict:
    inputs = {}
    values = iter(node["widgets_values"])
    pending = next(values, None)
    for slot in node["inputs"]:
        name = slot["name"]
        if "widget" in slot:
            inputs[name], pending = pending, next(values, None)
            if name == "seed" and pending in CONTROLS:
                pending = next(values, None)
        if slot["link"] is not None:
            inputs[name] = links[slot["link"]]
    sent = {name: value for name, value in inputs.items() if name not in NOT_SENT}
    return {
        "class_type": node["type"],
        "inputs": sent,
        "_meta": {"title": node.get("title", node["type"])},
    }
