"""Run one graph on one ComfyUI server: upload its input images, run it, fetch the saved files."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from ..launcher import client
from ..launcher.client import ConnectionLost
from ..launcher.environment import LauncherError
from .graph import is_link

ANSWER_SECONDS = 60
"""Time limit in seconds for a response that needs no computation."""


@dataclass(frozen=True)
class Job:
    """One run of a graph.

    key: names the result. nodes: the graph in API format. uploads: name in the server's input folder -> content.
    """

    key: str
    nodes: dict[str, dict]
    uploads: dict[str, bytes] = field(default_factory=dict)


Outputs = dict[str, list[bytes]]
"""Node id -> contents of the files that the node saved, in order."""


async def run_job(url: str, job: Job) -> Outputs:
    """Run a job on the server at `url`.

    Raises:
        ConnectionLost: the server is lost, or its answer is not that of a ComfyUI server.
        LauncherError: ComfyUI refused the graph, a node failed, or a saved file is gone.
    """
    try:
        async with _session() as session:
            for name, content in job.uploads.items():
                form = aiohttp.FormData()
                form.add_field("image", content, filename=name)
                form.add_field("overwrite", "true")
                async with session.post(f"{url}/upload/image", data=form, raise_for_status=True):
                    pass
        shown = await client.execute(url, with_new_pictures(job.nodes), lambda *_: None)
        async with _session() as session:
            return {node: [await _content(session, url, file) for file in files(out)] for node, out in shown.items()}
    except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
        raise ConnectionLost(f"{url}: {error or type(error).__name__}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConnectionLost(
            f"The answer of {url} is not that of a ComfyUI server ({type(error).__name__}: {error}). Check the address."
        ) from error


def with_new_pictures(nodes: dict[str, dict]) -> dict[str, dict]:
    """Return a graph whose temporary pictures are written again, even if ComfyUI has cached their nodes.

    Cached nodes name the files of an earlier run, which another server with the same folders deletes when it stops. An
    input that a node does not have is part of ComfyUI's cache key, and is otherwise ignored.
    """
    fresh = {key: {**node, "inputs": {**node["inputs"], "run": uuid.uuid4().hex}} for key, node in nodes.items()}
    return {key: fresh[key] if node["class_type"] == "PreviewImage" else node for key, node in nodes.items()}


def files(output: dict[str, Any]) -> list[dict]:
    """Return the entries {filename, subfolder, type} of what one node showed or saved."""
    return [entry for shown in output.values() for entry in shown if isinstance(entry, dict) and "filename" in entry]


async def is_comfyui(url: str) -> bool:
    """Return whether a ComfyUI server answers at `url`.

    Raises:
        ConnectionLost: another server answers.
    """
    try:
        answer = await _json(url, "/system_stats")
    except (aiohttp.ClientConnectionError, OSError, asyncio.TimeoutError):
        return False
    except (aiohttp.ClientError, ValueError):
        answer = None
    if not isinstance(answer, dict) or "system" not in answer:
        raise ConnectionLost(f"What answers at {url} is not a ComfyUI server. Give the address that ComfyUI prints.")
    return True


async def model_files(url: str) -> dict[str, list]:
    """Return name -> [size in bytes, time of change] of all model files that the server offers.

    If several files have one name, in different folders, the list holds the pairs of all, in order of size and time: a
    graph names a file without its folder.
    """
    try:
        folders = [folder["name"] for folder in await _json(url, "/experiment/models")]
        found = [file for folder in folders for file in await _json(url, f"/experiment/models/{folder}")]
        stamps: dict[str, list] = {}
        for size, modified, name in sorted((file["size"], file["modified"], file["name"]) for file in found):
            stamps.setdefault(name, []).extend((size, modified))
        return stamps
    except (aiohttp.ClientError, OSError, asyncio.TimeoutError, ValueError, KeyError, TypeError) as error:
        raise ConnectionLost(f"{url} does not list its model files ({type(error).__name__}: {error}).") from error


def files_used(nodes: dict[str, dict], offered: dict[str, list]) -> dict[str, list]:
    """Return the model files that the widgets of a graph refer to."""
    values = [value for node in nodes.values() for value in node["inputs"].values() if not is_link(value)]
    return {value: offered[value] for value in values if isinstance(value, str) and value in offered}


async def _json(url: str, path: str) -> Any:
    async with _session() as session, session.get(url + path, raise_for_status=True) as answer:
        return await answer.json()


async def _content(session: aiohttp.ClientSession, url: str, file: dict) -> bytes:
    place = {name: file.get(name, "") for name in ("filename", "subfolder", "type")}
    async with session.get(f"{url}/view", params=place) as answer:
        if answer.status == 404:
            raise LauncherError(f"{url} no longer has the file {file['filename']} that the graph saved.")
        answer.raise_for_status()
        return await answer.read()


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=ANSWER_SECONDS))
