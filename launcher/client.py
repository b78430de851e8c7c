"""Queue a workflow on a running ComfyUI and follow it over the WebSocket."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import aiohttp

from .environment import LauncherError


class ConnectionLost(LauncherError):
    """The connection to ComfyUI is lost, or the answer is not that of a ComfyUI."""


SEEDS = "seed", "noise_seed"
"""Names of seed inputs. ComfyUI's own nodes, such as Random Noise, use the second one."""

HEARTBEAT_SECONDS = 240.0
"""The connection counts as lost if the server does not answer for half of this time."""


def fill(workflow: dict, prompt: str | None, image_prompt: str | None, seed: int | None) -> dict:
    """Return a copy with other texts in the nodes titled Prompt and Image prompt, and other seeds; None keeps them.

    The lowest seed of the workflow becomes `seed`. The others keep their distance to it.
    """
    filled = json.loads(json.dumps(workflow))
    for title, text in (("Prompt", prompt), ("Image prompt", image_prompt)):
        if text is None:
            continue
        node = next((n for n in filled.values() if n.get("_meta", {}).get("title") == title), None)
        if node is None:
            raise LauncherError(
                f"The workflow has no node titled {title!r}. Give one this title, or leave the option out."
            )
        node["inputs"][text_input(node["inputs"])] = text
    if seed is not None:
        seeded = seeds_of(filled)
        lowest = min((inputs[name] for inputs, name in seeded), default=0)
        for inputs, name in seeded:
            inputs[name] += seed - lowest
    return filled


def text_input(inputs: dict) -> str:
    """Return the name of the input with the text of a prompt node."""
    return "value" if "value" in inputs else "text"


def seeds_of(workflow: dict) -> list[tuple[dict, str]]:
    """Return (inputs of a node, name of an input) of each seed: of samplers, or of the number connected to one."""
    seeds = {}
    for key, node in workflow.items():
        for name in SEEDS:
            value, owner, slot = node["inputs"].get(name), key, name
            if isinstance(value, list) and value and value[0] in workflow:
                owner, slot = value[0], "value"  # of a primitive; a node that makes seeds has an input "seed"
                value = workflow[owner]["inputs"].get(slot)
            if isinstance(value, int):
                seeds[owner, slot] = workflow[owner]["inputs"], slot
    return list(seeds.values())


async def execute(url: str, workflow: dict, report: Callable[[str, int, int], None]) -> dict[str, dict]:
    """Run a workflow and return node id -> outputs. report(title of the node, step, steps) is called meanwhile.

    Raises LauncherError with ComfyUI's message if it refuses the workflow or a node fails.
    """
    client = uuid.uuid4().hex
    async with (
        aiohttp.ClientSession(url) as session,
        session.ws_connect(f"/ws?clientId={client}", max_msg_size=0, heartbeat=HEARTBEAT_SECONDS) as socket,
    ):
        body = {"prompt": workflow, "client_id": client}
        async with session.post("/prompt", json=body) as answer:
            reply = await answer.json()
            if answer.status != 200 or reply["node_errors"]:
                raise LauncherError(f"ComfyUI refused the workflow: {_refusal(reply)}")
        outputs: dict[str, dict] = {}
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            event = json.loads(message.data)
            data = event["data"]
            if data.get("prompt_id") != reply["prompt_id"]:
                continue
            if event["type"] == "executed" and data.get("output"):
                outputs[data["node"]] = data["output"]
            elif event["type"] == "progress":
                report(_title(workflow, data["node"]), data["value"], data["max"])
            elif event["type"] == "executing" and data["node"]:
                report(_title(workflow, data["node"]), 0, 0)
            elif event["type"] == "execution_error":
                raise LauncherError(f"The node {_title(workflow, data['node_id'])!r}: {data['exception_message']}")
            elif event["type"] == "execution_interrupted":
                raise LauncherError("The run was interrupted in ComfyUI. Run the same command again.")
            elif event["type"] == "execution_success":
                return outputs
    raise ConnectionLost("ComfyUI closed the connection before the workflow ended. Its log says why.")


def saved_files(outputs: dict[str, dict], folder: Path) -> list[Path]:
    """Return the files that the workflow saved in the output folder, without previews."""
    entries = [file for shown in outputs.values() for files in shown.values() for file in files]
    files = [file for file in entries if isinstance(file, dict) and file.get("type") == "output"]
    return [folder / file["subfolder"] / file["filename"] for file in files]


class Progress:
    """Progress as one line per node. A terminal line is updated at each step; in a log it is printed once."""

    def __init__(self) -> None:
        self.title = ""

    def __call__(self, title: str, step: int, steps: int) -> None:
        start = "\n" if self.title and title != self.title else "\r"
        if sys.stdout.isatty():
            count = f" {step}/{steps}" if steps else ""
            print(f"{start}  {title}{count}", end="", flush=True)
        elif title != self.title:
            print(f"  {title}", flush=True)
        self.title = title

    def end(self) -> None:
        if self.title and sys.stdout.isatty():
            print(flush=True)


def _title(workflow: dict, node: str) -> str:
    entry = workflow.get(node.split(":", maxsplit=1)[0], {})
    return entry.get("_meta", {}).get("title") or entry.get("class_type", node)


def _refusal(reply: dict) -> str:
    parts = [reply["error"]["message"]] if "error" in reply else []
    for node in reply.get("node_errors", {}).values():
        parts += [f"{node['class_type']}: {error['message']} {error['details']}" for error in node["errors"]]
    return "; ".join(parts)
