"""A real server through its HTTP and WebSocket API: what it lists, what it makes, and what it says of mistakes."""

from __future__ import annotations

import asyncio
import copy
import json
import re
import urllib.request
from urllib.parse import quote

import av
import numpy as np
import pytest
from emu_video.evaluation.pictures import decode_all
from emu_video.evaluation.servers import Job, run_job
from emu_video.launcher.client import execute, fill, saved_files
from emu_video.launcher.comfyui import PACK
from emu_video.launcher.environment import ROOT, LauncherError
from emu_video.launcher.server import get_json, running
from emu_video.tests.graphs import shipped

GRAPHS = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
VIDEOS = {  # frames, frames per second, pixels of a side
    "text_to_video_pocket": (8, 8, 128),
    "animate_image_pocket": (8, 8, 128),
    "extend_three_prompts_pocket": (22, 8, 128),
    "text_to_video_cascade_pocket": (37, 32, 128),
    "text_to_video_super_resolution_pocket": (37, 32, 256),
    "animate_image_interpolated_pocket": (37, 32, 128),
    "train_your_own_motion_pocket": (8, 8, 128),
}
STEPS = 2


def read(name: str, steps: int = STEPS) -> dict:
    graph = shipped(name)
    graph.set_everywhere(steps=steps)
    return graph.nodes


def by_title(workflow: dict, title: str) -> dict:
    return next(node for node in workflow.values() if node["_meta"]["title"] == title)["inputs"]


def run(server, workflow: dict, report=lambda *_: None) -> dict:
    return asyncio.run(execute(server.url, workflow, report))


def refusal(server, workflow: dict) -> str:
    """What a newcomer is told; it is one sentence or two, never a traceback."""
    with pytest.raises(LauncherError) as caught:
        run(server, workflow)
    word = str(caught.value)
    assert "Traceback" not in word and "\n" not in word.strip()
    return word


@pytest.fixture(scope="module")
def object_info(server) -> dict:
    return get_json(server.url + "/object_info")


def test_server_log_is_clean(server):
    log = server.log.read_text("utf-8", "replace")
    assert "IMPORT FAILED" not in log and "Traceback" not in log


def test_templates_are_listed_with_their_pictures(server):
    assert sorted(get_json(server.url + "/api/workflow_templates")[PACK]) == GRAPHS
    for name in GRAPHS:
        for suffix in ("json", "jpg"):
            url = f"{server.url}/api/workflow_templates/{PACK}/{quote(name)}.{suffix}"
            with urllib.request.urlopen(url) as answer:
                assert answer.status == 200


def test_help_pages_are_served(server, object_info):
    ours = [name for name in object_info if name.startswith("EmuVideo")]
    assert ours
    for name in ours:
        with urllib.request.urlopen(f"{server.url}/extensions/{PACK}/docs/{name}.md") as answer:
            page = answer.read().decode()
        assert page.startswith("#")
        (picture,) = re.findall(r"!\[.+\]\((.+)\)", page)
        with urllib.request.urlopen(f"{server.url}/extensions/{PACK}/docs/{picture}") as answer:
            assert answer.headers["Content-Type"] == "image/jpeg"


@pytest.mark.parametrize("name", GRAPHS)
def test_graph_fits_the_nodes(object_info, name):
    """Every slot of the saved graph is one that the node has, in the node's order."""
    graph = json.loads((ROOT / "workflows" / f"{name}.json").read_text("utf-8"))
    for node in graph["nodes"]:
        if node["type"] == "MarkdownNote":
            continue
        info = object_info[node["type"]]
        schema = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        slots = [slot["name"] for slot in node["inputs"] if slot["name"] != "upload"]
        assert set(slots) == set(schema), node["type"]
        widgets = [slot["name"] for slot in node["inputs"] if "widget" in slot and slot["name"] != "upload"]
        assert widgets == [key for key in schema if key in widgets], node["type"]
        for slot in node["inputs"]:
            kind = schema[slot["name"]][0] if slot["name"] in schema else slot["type"]
            assert slot["type"] == ("COMBO" if isinstance(kind, list) else kind), (node["type"], slot["name"])
        assert [output["type"] for output in node["outputs"]] == info["output"], node["type"]


@pytest.mark.parametrize("name", VIDEOS)
def test_graph_makes_a_video(server, name):
    count, rate, side = VIDEOS[name]
    reports = []
    workflow = fill(read(name), None, None, seed=10 * list(VIDEOS).index(name))  # of its own: nothing is cached
    outputs = run(server, workflow, lambda *report: reports.append(report))
    (file,) = saved_files(outputs, server.output)
    with av.open(str(file)) as video:
        stream = video.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(stream)]
        assert stream.average_rate == rate
    assert np.shape(frames) == (count, side, side, 3)
    samplers = [node["_meta"]["title"] for node in workflow.values() if node["class_type"] == "EmuVideoSampler"]
    assert samplers and {(title, STEPS, STEPS) for title in samplers} <= set(reports)


def test_same_seed_same_video_other_seed_another(server):
    def frames(seed: int, prompt: str = "a red circle moving right") -> np.ndarray:
        workflow = fill(read("text_to_video_pocket"), prompt, None, seed)
        by_title(workflow, "Save Video")["filename_prefix"] = f"seed_{seed}_{len(prompt)}"
        (file,) = saved_files(run(server, workflow), server.output)
        with av.open(str(file)) as video:
            return np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])

    first = frames(1)
    other, prompted = frames(2), frames(1, "a blue square moving down")
    assert np.array_equal(frames(1), first)
    assert not np.array_equal(other, first) and not np.array_equal(prompted, first)


def test_empty_prompt_is_no_error(server):
    outputs = run(server, fill(read("text_to_video_pocket"), "", None, None))
    assert saved_files(outputs, server.output)


def test_missing_vae(server):
    workflow = read("text_to_video_pocket")
    del by_title(workflow, "First Frame Conditioning")["vae"]
    assert "Required input is missing" in refusal(server, workflow)


@pytest.mark.parametrize("frames", [0, 1])
def test_too_few_frames(server, frames):
    workflow = read("text_to_video_pocket")
    by_title(workflow, "First Frame Conditioning")["frames"] = frames
    assert "frames" in refusal(server, workflow)


def test_odd_sizes(server):
    workflow = read("animate_image_pocket")
    by_title(workflow, "Crop to 128 × 128").update(width=127, height=101)
    word = refusal(server, workflow)
    assert "127x101" in word and "multiples of 8" in word and "128x104" in word


def test_batch_of_images(server):
    workflow = read("text_to_video_pocket")
    by_title(workflow, "Empty Latent Image")["batch_size"] = 3
    assert "must be one image, but 3 are connected" in refusal(server, workflow)


def test_temporal_layers_left_out(server):
    workflow = read("text_to_video_pocket")
    plain = by_title(workflow, "Load Temporal Layers")["model"]
    for title in ("First Frame Conditioning", "Emu Video Sampler"):
        by_title(workflow, title)["model"] = plain
    assert "Load Temporal Layers" in refusal(server, workflow)


def test_wrong_number_of_frames(server):
    workflow = read("text_to_video_pocket")
    sampler = by_title(workflow, "Emu Video Sampler")
    sampler["latent"] = [next(k for k, n in workflow.items() if n["class_type"] == "EmptyLatentImage"), 0]
    workflow = copy.deepcopy(workflow)
    assert "frame" in refusal(server, workflow)


def test_missing_file_is_named(server):
    workflow = read("text_to_video_pocket")
    by_title(workflow, "Load Temporal Layers")["temporal_layers"] = "nothing.safetensors"
    assert "nothing.safetensors" in refusal(server, workflow)


def test_temporary_pictures_are_written_again_for_a_cached_graph(server, tmp_path):
    """Also where the files of the run before are gone, as after another server on the same folders has stopped."""
    graph = shipped("text_to_video_pocket").filled("a red circle still", seed=3)
    graph.set_everywhere(steps=1)
    graph.fetch_frames()
    job = Job("job", graph.nodes)
    first = asyncio.run(run_job(server.url, job))
    for file in (server.output.parent / "temp").rglob("*.png"):
        file.unlink()
    again = asyncio.run(run_job(server.url, job))
    assert len(first["frames"]) == 8 and (decode_all(first["frames"]) == decode_all(again["frames"])).all()


def test_a_second_server_leaves_the_temporary_pictures_of_the_first(comfyui, base, server):
    folder = base / "temp" / server.url.rpartition(":")[2]
    picture = folder / "temp" / "kept.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(b"picture")
    with running(comfyui, base, base / "output") as second:
        with urllib.request.urlopen(f"{server.url}/view?type=temp&filename=kept.png") as answer:
            assert answer.read() == b"picture"
        of_second = base / "temp" / second.url.rpartition(":")[2]
        (of_second / "temp").mkdir(parents=True, exist_ok=True)
    assert folder.exists() and not of_second.exists()
