"""The template of the whole cascade, run by ComfyUI's executor with super-resolution layers that are not trained."""

from __future__ import annotations

import json

import av
import folder_paths
import numpy as np
from emu_video.docs.template_graphs import text_to_video_super_resolution
from emu_video.docs.templates import Builder
from emu_video.docs.ui_to_api import ui_to_api
from emu_video.evaluation.graph import Graph
from emu_video.pocket.model.denoiser import Denoiser
from emu_video.pocket.recipe import SECOND
from emu_video.pocket.shipped import CHECKPOINT, INTERPOLATION_LAYERS, SUPER_RESOLUTION_LAYERS, VIDEO_LAYERS
from emu_video.temporal_layers.backbones import find_anchors
from emu_video.temporal_layers.files import load_layers, save_layers
from emu_video.tests.comfyui.test_public_graphs import folders, run, stock_nodes  # noqa: F401

import nodes


def described(kind: str) -> dict:
    """What /object_info says of a node."""
    cls = nodes.NODE_CLASS_MAPPINGS[kind]
    if hasattr(cls, "GET_NODE_INFO_V1"):
        return json.loads(json.dumps(cls.GET_NODE_INFO_V1(), default=list))
    info = {
        "input": cls.INPUT_TYPES(),
        "output": cls.RETURN_TYPES,
        "output_name": getattr(cls, "RETURN_NAMES", cls.RETURN_TYPES),
        "display_name": nodes.NODE_DISPLAY_NAME_MAPPINGS.get(kind, kind),
    }
    return json.loads(json.dumps(info, default=list))


class Described(dict):
    def __missing__(self, kind: str) -> dict:
        self[kind] = described(kind)
        return self[kind]


def cascade() -> Graph:
    return Graph(ui_to_api(Builder(text_to_video_super_resolution(), Described()).build()))


def write_untrained_layers(path) -> None:
    """The video layers as super-resolution layers."""
    weights, info = load_layers(VIDEO_LAYERS)
    assert info.anchors == find_anchors(Denoiser(SECOND.shape).unet)
    large = info.__class__(**vars(info) | {"role": "super_resolution", "factor": 2, "noise_told": True})
    save_layers(path, weights, large)


def test_every_stage_reads_the_prompt_and_shows_its_seed_guidance_and_steps(stock_nodes, pack):  # noqa: F811
    graph = cascade()
    samplers = [graph.nodes[key] for key in graph.find("EmuVideoSampler")]
    assert len(samplers) == 3 and len({node["inputs"]["seed"] for node in samplers}) == 3
    prompt = graph.id("Prompt")
    for node in samplers:
        assert {"seed", "steps", "text_guidance", "image_guidance"} <= node["inputs"].keys()
        conditioning = graph.nodes[node["inputs"]["positive"][0]]
        text = graph.nodes[conditioning["inputs"]["positive"][0]]
        assert text["inputs"]["text"] == [prompt, 0]
    order = [graph.nodes[node["inputs"]["positive"][0]]["class_type"] for node in samplers]
    assert order == ["EmuVideoFirstFrame", "EmuVideoInterpolation", "EmuVideoSuperResolution"]


def test_the_whole_cascade_makes_a_video_of_twice_the_size(stock_nodes, folders):  # noqa: F811
    graph = cascade()
    graph.set_everywhere(steps=1, width=64, height=64)
    graph.inputs("EmuVideoInterpolation").update(factor=2, margin=0)
    for file in (CHECKPOINT, VIDEO_LAYERS, INTERPOLATION_LAYERS):
        (folders / file.parent.name / file.name).symlink_to(file)
    write_untrained_layers(folders / "temporal_layers" / SUPER_RESOLUTION_LAYERS.name)
    run(graph.nodes)
    (saved,) = (folders / "output").rglob("*.mp4")
    with av.open(str(saved)) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == 15 and frames[0].shape == (128, 128, 3)
    assert all(np.ptp(frame) > 0 for frame in frames) and folder_paths.get_output_directory() == str(folders / "output")
