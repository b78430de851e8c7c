"""Graphs in API format: loading, changing, and asking for frames."""

import json

import pytest
from emu_video.evaluation.graph import Graph
from emu_video.tests.graphs import shipped


@pytest.fixture
def graph():
    return shipped("text_to_video_pocket")


def test_nodes_are_found_by_title_class_and_id(graph):
    assert graph.id("Emu Video Sampler") == graph.id("EmuVideoSampler") == graph.id("13") == "13"
    assert graph.find("CLIPTextEncode") == ["4", "5", "6"]
    assert graph.source("Decode video", "samples") == "13"


@pytest.mark.parametrize("name, said", [("CLIPTextEncode", "has 3 nodes"), ("Upscale", "has no node.*Prompt, Image")])
def test_unclear_names_are_refused(graph, name, said):
    with pytest.raises(ValueError, match=said):
        graph.id(name)


def test_widgets_are_changed_by_title_or_class(graph):
    graph.change("Emu Video Sampler.text_guidance", 4.0)
    graph.change("CLIPTextEncode.clip", ["11", 0])
    assert graph.inputs("13")["text_guidance"] == 4.0
    assert [graph.nodes[key]["inputs"]["clip"] for key in graph.find("CLIPTextEncode")] == [["11", 0]] * 3


@pytest.mark.parametrize(
    "target, said", [("Emu Video Sampler.cfg", "no input 'cfg'.*steps"), ("Nobody.cfg", "no node"), ("cfg", "no node")]
)
def test_changes_that_fit_nothing_are_refused(graph, target, said):
    with pytest.raises(ValueError, match=said):
        graph.change(target, 1)


def test_frames_take_the_place_of_the_video(graph):
    assert graph.fetch_frames() == 8.0
    assert graph.nodes["frames"]["inputs"]["images"] == ["14", 0]
    kinds = {node["class_type"] for node in graph.nodes.values()}
    assert not kinds & {"CreateVideo", "SaveVideo"}


def test_graph_without_a_fixed_frame_rate_keeps_its_video(graph):
    graph.inputs("Create Video")["fps"] = ["3", 0]
    before = graph.copy()
    assert graph.fetch_frames() is None and graph.nodes == before.nodes


def test_all_kinds_of_seeds_are_filled(graph):
    graph.add("Noise", "RandomNoise", noise_seed=3)
    graph.add("Linked", "RandomNoise", noise_seed=["3", 0])
    filled = graph.filled("red", seed=10)
    assert filled.inputs("Noise")["noise_seed"] == 13 and filled.inputs("13")["seed"] == 10
    assert filled.inputs("Linked")["noise_seed"] == ["3", 0] and graph.inputs("Noise")["noise_seed"] == 3


@pytest.mark.parametrize(
    "content, said",
    [
        ("{", "cannot be read"),
        ('{"nodes": [], "links": []}', "graph of the editor"),
        ('{"1": {}}', "not a graph in API"),
        ("[]", "not a"),
    ],
)
def test_files_that_are_no_api_graph_are_refused(tmp_path, content, said):
    path = tmp_path / "graph.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"graph.json.*{said}"):
        Graph.load(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="nothing.json cannot be read"):
        Graph.load(tmp_path / "nothing.json")


def test_same_title_twice_is_refused(graph):
    graph.fetch_images("frames", ["14", 0])
    with pytest.raises(ValueError, match="already has a node with the id 'frames'"):
        graph.fetch_images("frames", ["14", 0])
    assert json.dumps(graph.nodes)
