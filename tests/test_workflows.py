"""The shipped graphs: consistent in themselves, and the same in both forms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from emu_video.docs.templates import file_name
from emu_video.docs.ui_to_api import ui_to_api
from emu_video.evaluation.graph import Graph
from PIL import Image

WORKFLOWS = Path(__file__).resolve().parent.parent / "workflows"
GRAPHS = sorted(WORKFLOWS.glob("*.json"), key=lambda file: file.name)
TITLE = 30  # height of the title bar above a node's position
LOADER = "EmuVideoLoadTemporalLayers"
OPTIONAL = 7  # how the front end draws an input that may stay free
each_graph = pytest.mark.parametrize("file", GRAPHS, ids=lambda file: file.stem)


def api_name(file: Path) -> str:
    return f"{file_name(file.stem)}.json"


def shown_size(node: dict) -> tuple[float, float]:
    """Width and height below the title bar."""
    width, height = node["size"]
    return width, 0 if node["flags"].get("collapsed") else height


def test_every_graph_has_a_twin():
    assert {api_name(file) for file in GRAPHS} == {file.name for file in (WORKFLOWS / "api").glob("*.json")}


@each_graph
def test_api_twin_is_the_same_graph(file):
    twin = json.loads((WORKFLOWS / "api" / api_name(file)).read_text("utf-8"))
    assert ui_to_api(json.loads(file.read_text("utf-8"))) == twin, "run `python -m emu_video.docs.templates`"


@each_graph
def test_links_join_the_slots_that_name_them(file):
    graph = json.loads(file.read_text("utf-8"))
    nodes = {node["id"]: node for node in graph["nodes"]}
    for number, source, out, target, into, kind in graph["links"]:
        output, slot = nodes[source]["outputs"][out], nodes[target]["inputs"][into]
        assert number in output["links"] and slot["link"] == number
        assert output["type"] == kind and kind in slot["type"].split(",")
    used = {slot["link"] for node in graph["nodes"] for slot in node["inputs"] if slot["link"]}
    assert used == {link[0] for link in graph["links"]}


@each_graph
def test_nodes_do_not_overlap(file):
    boxes = [(node["pos"], shown_size(node)) for node in json.loads(file.read_text("utf-8"))["nodes"]]
    for i, ((x, y), (w, h)) in enumerate(boxes):
        for (u, v), (p, q) in boxes[i + 1 :]:
            assert x + w <= u or u + p <= x or y + h <= v - TITLE or v + q <= y - TITLE, (x, y, u, v)


@each_graph
def test_every_input_is_connected_or_typed(file):
    for node in json.loads(file.read_text("utf-8"))["nodes"]:
        for slot in node["inputs"]:
            assert slot["link"] or "widget" in slot or slot.get("shape") == OPTIONAL, (node["title"], slot["name"])


@each_graph
def test_groups_do_not_cut_nodes_in_two(file):
    graph = json.loads(file.read_text("utf-8"))
    for (x, y), (w, h) in [(node["pos"], shown_size(node)) for node in graph["nodes"]]:
        for u, v, p, q in [group["bounding"] for group in graph["groups"]]:
            inside = u <= x and x + w <= u + p and v <= y - TITLE and y + h <= v + q
            outside = x + w <= u or u + p <= x or y + h <= v or v + q <= y - TITLE
            assert inside or outside, (x, y, u, v)


@each_graph
def test_only_what_is_saved_is_sampled_with_temporal_layers(file):
    """The samplers of videos run on a model of Load Temporal Layers, those of single images on the checkpoint's."""
    graph = json.loads((WORKFLOWS / "api" / api_name(file)).read_text("utf-8"))

    def came_through(node: dict, name: str) -> bool:
        while "model" in node["inputs"]:
            node = graph[node["inputs"]["model"][0]]
            if node["class_type"] == name:
                return True
        return False

    samplers = [node for node in graph.values() if {"latent_image", "latent"} & node["inputs"].keys()]
    assert any(came_through(node, LOADER) for node in samplers)
    for node in samplers:
        latent = graph[node["inputs"].get("latent_image", node["inputs"].get("latent"))[0]]
        assert came_through(node, LOADER) == (latent["inputs"].get("batch_size") != 1), node["_meta"]["title"]


def test_every_stage_of_the_cascade_reads_the_prompt_and_shows_its_settings():
    graph = Graph.load(WORKFLOWS / "api" / "text_to_video_super_resolution_pocket.json")
    samplers = [graph.nodes[key] for key in graph.find("EmuVideoSampler")]
    assert len({node["inputs"]["seed"] for node in samplers}) == 3
    stages = [graph.nodes[node["inputs"]["positive"][0]] for node in samplers]
    order = ["EmuVideoFirstFrame", "EmuVideoInterpolation", "EmuVideoSuperResolution"]
    assert [stage["class_type"] for stage in stages] == order
    for sampler, stage in zip(samplers, stages, strict=True):
        assert {"seed", "steps", "text_guidance", "image_guidance"} <= sampler["inputs"].keys()
        text = graph.nodes[stage["inputs"]["positive"][0]]
        assert text["inputs"]["text"] == [graph.id("Prompt"), 0]


@each_graph
def test_preview_picture(file):
    picture = Image.open(file.with_suffix(".jpg"))
    assert picture.format in ("JPEG", "WEBP") and min(picture.size) >= 256  # the front end plays an animated WebP
