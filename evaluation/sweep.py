"""Render prompts x seeds x arms on ComfyUI servers. Existing videos are not rendered again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlparse

import numpy as np

from ..launcher.client import ConnectionLost, seeds_of, text_input
from . import pictures, videos
from .graph import Graph, is_link
from .pool import Pool
from .prompts import Prompt
from .results import Results
from .servers import Job, Outputs, files_used, model_files
from .videos import Video

REFERENCE_INPUTS = {
    "EmuVideoFirstFrame": "image",
    "EmuVideoFirstLast": "first",
    "EmuVideoAffinity": "image",
    "EmuVideoKnownFrames": "images",
}
"""Class of a node that conditions on a first frame -> the input that takes it, or takes a batch that begins with it."""
FIRST_POSITION = re.compile(r"\s*0\s*(,|$)")


class GraphArm(NamedTuple):
    """One arm of a comparison: a graph with changed widgets. about: its description in the report."""

    name: str
    graph: Graph
    about: str


class Clip(NamedTuple):
    """One video of one arm. name: the same in all arms. reference: its conditioning image, if there is one."""

    arm: str
    name: str
    prompt: str
    group: str
    seed: int
    path: Path
    reference: Path | None


def clip_of(folder: Path, arm: str, prompt: Prompt, seed: int) -> Clip:
    name = f"{prompt.id}_{seed}"
    reference = folder / arm / f"{name}.png"
    found = reference if reference.exists() else None
    return Clip(arm, name, prompt.text, prompt.id, seed, folder / arm / f"{name}.mkv", found)


class Sweep:
    """Renderer of each prompt with each seed by each arm. It writes lossless files ARM/ID_SEED.mkv into `folder`.

    renders.jsonl in `folder` records the graph and the model files of each video.
    """

    def __init__(self, folder: Path, arms: Sequence[GraphArm], prompts: Sequence[Prompt], seeds: Sequence[int]):
        self.folder = folder
        self.arms, self.prompts, self.seeds = arms, prompts, seeds
        self.renders = Results(folder / "renders.jsonl")
        self.rates: dict[str, float | None] = {}
        self.weights: dict[str, dict] = {}
        self.jobs = {
            f"{arm.name}/{prompt.id}_{seed}": self._job(arm, prompt, seed)
            for prompt in prompts
            for seed in seeds
            for arm in arms
        }

    def _job(self, arm: GraphArm, prompt: Prompt, seed: int) -> Job:
        if not seeds_of(arm.graph.nodes):
            raise ValueError(
                f"The graph of {arm.name!r} has no seed that can be set, so all its videos would be the same. Use a "
                "sampler node with a seed. A connected seed needs a node with an input named seed or value."
            )
        image_prompt = prompt.image or (prompt.text if has_own_image_prompt(arm.graph) else None)
        graph = arm.graph.filled(prompt.text, image_prompt, seed)
        self.rates[arm.name] = graph.fetch_frames()
        if link := first_frame_of(graph):
            graph.fetch_images("reference", link)
        return Job(f"{arm.name}/{prompt.id}_{seed}", graph.nodes)

    def run(self, servers: Sequence[str]) -> dict[str, str]:
        """Render missing videos; return key -> reason for those that failed."""
        offered = asyncio.run(_offered(servers))
        self.weights = {key: weights_of(job, offered) for key, job in self.jobs.items()}
        missing = [job for job in self.jobs.values() if not self._is_rendered(job)]
        done = len(self.jobs) - len(missing)
        print(f"{len(missing)} videos to render, {done} are there already", flush=True)

        def finished(job: Job, outputs: Outputs) -> None:
            arm, name = job.key.split("/")
            self._save(self.folder / arm / name, outputs, self.rates[arm])
            self.renders.add(job.key, {"graph": digest_of(job.nodes), "weights": self.weights[job.key]})

        return Pool(servers, finished).run(missing)

    def _save(self, path: Path, outputs: Outputs, rate: float | None) -> None:
        if rate is None:
            video = first_video(outputs)
        else:
            video = Video(pictures.decode_all(outputs["frames"]), rate)
        reference = path.with_name(f"{path.name}.png")
        if "reference" in outputs:
            path.parent.mkdir(parents=True, exist_ok=True)
            reference.write_bytes(outputs["reference"][0])
        else:
            reference.unlink(missing_ok=True)
        videos.write_lossless(path.with_name(f"{path.name}.mkv"), video)

    def _is_rendered(self, job: Job) -> bool:
        """Return whether the video of a job exists and was made by the same graph and model files."""
        row = self.renders.rows.get(job.key)
        if row is None or not (self.folder / f"{job.key}.mkv").exists():
            return False
        return row["graph"] == digest_of(job.nodes) and same_weights(row["weights"], self.weights[job.key])

    def clips(self) -> list[Clip]:
        """Return the clips of the arms' graphs that the last `run` made or found, arm by arm.

        A video of another graph or of other model files is left out, even if its file is still there.
        """
        clips = [clip_of(self.folder, a.name, p, seed) for a in self.arms for p in self.prompts for seed in self.seeds]
        return [clip for clip in clips if self._is_rendered(self.jobs[f"{clip.arm}/{clip.name}"])]


def has_own_image_prompt(graph: Graph) -> bool:
    """Return whether the node titled Image prompt contains a text. Otherwise it is linked to another node's."""
    inputs = next((graph.nodes[key]["inputs"] for key in graph.titled("Image prompt")), None)
    return inputs is not None and not is_link(inputs.get(text_input(inputs)))


def first_frame_of(graph: Graph) -> Any:
    """Return the link to the image that a graph's video begins with, or None if no node has one.

    With a margin, interpolation adds frames before the given ones, so the video begins with a generated frame.
    """
    if any(graph.nodes[key]["inputs"].get("margin") != 0 for key in graph.find("EmuVideoInterpolation")):
        return None
    for kind, slot in REFERENCE_INPUTS.items():
        for key in graph.find(kind):
            inputs = graph.nodes[key]["inputs"]
            if inputs.get(slot) and FIRST_POSITION.match(str(inputs.get("positions", "0"))):
                return inputs[slot]
    return None


def first_video(outputs: Outputs) -> Video:
    """Return the first of the saved files that is a video.

    Raises:
        ValueError: there is none.
    """
    for content in (content for files in outputs.values() for content in files):
        try:
            video = videos.read(BytesIO(content))
        except ValueError:
            continue
        if len(video.frames) > 1:
            return video
    raise ValueError("The graph saved no video. End it with Create Video and Save Video.")


def digest_of(nodes: dict) -> str:
    return hashlib.sha256(json.dumps(nodes, sort_keys=True).encode()).hexdigest()


def weights_of(job: Job, offered: dict[str, dict[str, list]]) -> dict[str, dict[str, list]]:
    """Return host -> model file -> stamps as those of `model_files`, of the files that the job's graph names.

    Raises:
        ValueError: two servers hold different files under one name.
    """
    stamps = {host: files_used(job.nodes, files) for host, files in offered.items()}
    sizes: dict[str, tuple[str, list[int]]] = {}
    for host, files in stamps.items():
        for name, stamp in files.items():
            other, expected = sizes.setdefault(name, (host, _sizes(stamp)))
            if set(expected).isdisjoint(_sizes(stamp)):
                here, there = (" or ".join(map(str, each)) for each in (_sizes(stamp), expected))
                raise ValueError(
                    f"{name} has {there} bytes on {other} and {here} on {host}. Give all servers the same file."
                )
    return stamps


def same_weights(then: dict[str, dict[str, list]], now: dict[str, dict[str, list]]) -> bool:
    """Return whether model files are unchanged: the same sizes, and on hosts in both lists the same times."""

    def sizes(stamps: dict[str, dict[str, list]]) -> set[tuple[str, int]]:
        return {(name, size) for files in stamps.values() for name, stamp in files.items() for size in _sizes(stamp)}

    return sizes(then) == sizes(now) and all(then[host] == now[host] for host in then.keys() & now.keys())


def _sizes(stamp: list) -> list[int]:
    return stamp[::2]


async def _offered(servers: Iterable[str]) -> dict[str, dict[str, list]]:
    """Return host -> model files. A server that does not list them is left out, with a warning.

    Several servers of one host may list different files, for example through SSH tunnels; then their names have ports.
    """
    found = {}
    for server in servers:
        try:
            files, address = await model_files(server), urlparse(server)
            host = address.hostname or server
            found[host if found.get(host, files) == files else address.netloc] = files
        except ConnectionLost as error:
            print(f"Changes of its model files cannot be detected: {error}", flush=True)
    return found


def contact_sheet(path: Path, clips: Sequence[Clip], most: int = 24, columns: int = 8) -> None:
    """Write one strip of up to `columns` frames for each of the first clips, arm below arm."""
    strips = []
    for clip in sorted(clips, key=lambda clip: (clip.group, clip.seed))[:most]:
        frames = videos.read(clip.path).frames
        picked = frames[np.linspace(0, len(frames) - 1, min(columns, len(frames))).round().astype(int)]
        height = 128
        small = videos.resized(picked, height, max(1, round(picked.shape[2] * height / picked.shape[1])))
        strips.append(np.concatenate(list(small), 1))
    if strips:
        pictures.write_sheet(path, strips)
