"""The graphs for public temporal layers, run by ComfyUI's executor on narrow files of the published names and layouts.

A checkpoint here is a narrow UNet of the family with random weights, and the pocket's text encoder and autoencoder, so
that ComfyUI's stock loader reads it by its own detection. Sizes, frames and steps are made small; nothing else changes.
"""

from __future__ import annotations

import asyncio
import importlib
import json
from pathlib import Path
from typing import Any

import av
import comfy.cldm.cldm
import comfy.supported_models
import comfy.supported_models_base
import comfy.utils
import execution
import folder_paths
import numpy as np
import pytest
import torch
from emu_video.host.pocket import SIGNATURE, EmuVideoPocket
from emu_video.pocket.model.autoencoder import Autoencoder
from emu_video.pocket.model.checkpoint import AUTOENCODER, DENOISER
from emu_video.pocket.model.unet import UNetShape
from emu_video.pocket.shipped import CHECKPOINT
from emu_video.temporal_layers.backbones import unet as unet_backbone
from emu_video.tests.comfyui.formats import unets
from emu_video.tests.comfyui.stock import on_meta, random_weights
from emu_video.tests.comfyui.tiny import CONTEXT
from emu_video.tests.temporal_layers.formats import public
from PIL import Image
from safetensors.torch import save_file
from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet
from torch import Tensor

API = Path(__file__).resolve().parent.parent.parent / "workflows" / "api"
FRAMES, SIZE, STEPS = 4, 128, 2
GRAPHS = {  # base, the published file, frames and frames per second of the video
    "text_to_video_fancyvideo": ("sd15", lambda: {"module": prefixed(public.fancyvideo())}, (4 * (FRAMES - 1) + 1, 25)),
    "text_to_video_animatediff": ("sd15", lambda: public.animatediff(**public.V2), (FRAMES, 8)),
    "text_to_video_animatediff_motion_lora": ("sd15", lambda: public.animatediff(**public.V2), (FRAMES, 8)),
    "text_to_video_animatediff_v3": ("sd15", public.animatediff, (FRAMES, 8)),
    "text_to_video_animatediff_sdxl": ("sdxl", lambda: public.animatediff(**public.SDXL_BETA), (FRAMES, 8)),
    "animate_image_pia": ("sd15", public.pia, (FRAMES, 8)),
    "second_pass_animatediff": ("sd15", lambda: public.animatediff(**public.V2), (FRAMES, 8)),
    "second_pass_tile_animatediff": ("sd15", lambda: public.animatediff(**public.V2), (FRAMES, 8)),
    "second_pass_fancyvideo": ("sd15", lambda: {"module": prefixed(public.fancyvideo())}, (4 * (FRAMES - 1) + 1, 25)),
    "text_to_video_modelscope": ("sd21", lambda: public.modelscope_original(public.modelscope()), (FRAMES, 8)),
}
ADM = UNetShape.pooled_dim + 6 * 256  # pooled text and SDXL's six numbers of size and crop
BLOCKS_OF_SDXL = 28  # transformer blocks of `unets.SDXL`

LARGER = {"second_pass_animatediff": 1.5, "second_pass_fancyvideo": 1.5}
"""Graph -> factor by which it enlarges latents. Sizes in pixels are made small with the others."""


def tile() -> dict[str, Tensor]:
    """A ControlNet for the narrow SD1.5."""
    config = {key: value for key, value in unets.CONFIGS["sd15"].items() if key != "out_channels"}
    return random_weights(on_meta(comfy.cldm.cldm.ControlNet, config | {"hint_channels": 3}))


OTHER_FILES = (  # class of a loader, its widget, its folder, the file's weights
    ("EmuVideoLoadMotionLoRA", "motion_lora", "loras", public.motion_lora),
    ("LoraLoaderModelOnly", "lora_name", "loras", lambda: public.domain_adapter(context=CONTEXT)),
    ("ControlNetLoader", "control_net_name", "controlnet", tile),
    ("UpscaleModelLoader", "model_name", "upscale_models", lambda: RRDBNet(num_filters=8, num_blocks=1).state_dict()),
)


def prefixed(weights: dict) -> dict:
    return {f"module.{key}": tensor for key, tensor in weights.items()}


class Narrow(EmuVideoPocket):
    """The pocket's part of a narrow checkpoint: its text encoder, and an untrained autoencoder of 4 channels."""

    matches = classmethod(comfy.supported_models_base.BASE.matches.__func__)
    sampling_settings = {}
    process_unet_state_dict = comfy.supported_models.SD15.process_unet_state_dict
    get_model = comfy.supported_models.SD15.get_model
    latent_format = comfy.supported_models.SD15.latent_format


class NarrowSD15(Narrow):
    unet_config = comfy.supported_models.SD15.unet_config | {"model_channels": public.SD15[0], "context_dim": CONTEXT}
    unet_extra_config = comfy.supported_models.SD15.unet_extra_config
    model_type = comfy.supported_models.SD15.model_type


class NarrowSD21(Narrow):
    unet_config = comfy.supported_models.SD20.unet_config | {"model_channels": public.SD21[0], "context_dim": CONTEXT}
    unet_extra_config = comfy.supported_models.SD20.unet_extra_config
    model_type = comfy.supported_models.SD20.model_type


class NarrowSDXL(Narrow):
    unet_config = comfy.supported_models.SDXL.unet_config | {
        "model_channels": public.SDXL[0],
        "transformer_depth": unets.SDXL["transformer_depth"],
        "context_dim": CONTEXT,
        "adm_in_channels": ADM,
    }
    unet_extra_config = comfy.supported_models.SDXL.unet_extra_config
    model_type = comfy.supported_models.SDXL.model_type
    get_model = comfy.supported_models.SDXL.get_model
    latent_format = comfy.supported_models.SDXL.latent_format


class Server:
    """What the executor tells of, in place of the web server."""

    client_id = last_node_id = None

    def send_sync(self, event, data, client=None):
        pass


@pytest.fixture(scope="module")
def stock_nodes(comfyui, pack):
    """The stock nodes of the graphs that are not in ComfyUI's own `nodes` module."""
    nodes: Any = importlib.import_module("nodes")
    for name in ("nodes_video.py", "nodes_primitive.py", "nodes_upscale_model.py"):
        assert asyncio.run(nodes.load_custom_node(str(comfyui / "comfy_extras" / name), module_parent="comfy_extras"))


@pytest.fixture
def folders(tmp_path, monkeypatch) -> Path:
    """A models folder of its own, and an input and output folder; the narrow bases count as the real ones."""
    for name in ("checkpoints", "temporal_layers", "loras", "controlnet", "upscale_models"):
        (tmp_path / name).mkdir()
        extensions = folder_paths.folder_names_and_paths[name][1]
        monkeypatch.setitem(folder_paths.folder_names_and_paths, name, ([str(tmp_path / name)], extensions))
    for name in ("input", "output", "temp"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(folder_paths, f"{name}_directory", str(tmp_path / name))
    for base, width in (("sd15", public.SD15[0]), ("sd21", public.SD21[0]), ("sdxl", public.SDXL[0])):
        shape = unet_backbone.BASES[base]._replace(model_channels=width, context_dim=CONTEXT)
        config = unets.CONFIGS[base] | {"context_dim": CONTEXT}
        if base == "sdxl":
            shape, config = shape._replace(blocks=BLOCKS_OF_SDXL), config | {"adm_in_channels": ADM}
        monkeypatch.setitem(unet_backbone.BASES, base, shape)
        monkeypatch.setitem(unets.CONFIGS, base, config)
    known = [*comfy.supported_models.models, NarrowSD15, NarrowSD21, NarrowSDXL]
    monkeypatch.setattr(comfy.supported_models, "models", known)
    return tmp_path


def write_checkpoint(base: str, path: Path) -> None:
    pocket = comfy.utils.load_torch_file(str(CHECKPOINT))
    prefix = DENOISER["unet"]
    weights = {key: tensor for key, tensor in pocket.items() if not key.startswith((prefix, AUTOENCODER))}
    assert prefix + SIGNATURE not in weights
    torch.manual_seed(0)
    weights |= {AUTOENCODER + key: tensor for key, tensor in Autoencoder().state_dict().items()}
    unet = unets.comfy_unet(base).state_dict()
    # Weak biases, as ComfyUI tells SD 2.1 that predicts eps from SD 2.1 that predicts v by them.
    unet = {key: 0.5 * tensor if key.endswith("bias") else tensor for key, tensor in unet.items()}
    save_file(weights | {prefix + key: tensor.contiguous() for key, tensor in unet.items()}, path)


def small(graph: dict) -> dict:
    """The graph with small pictures, few frames and few steps. Frames are counted by a batch or by a node."""
    for node in graph.values():
        inputs = node["inputs"]
        inputs |= {key: SIZE for key in ("width", "height") if key in inputs}
        inputs |= {"steps": STEPS} if "steps" in inputs else {}
        if inputs.get("batch_size", 1) > 1:
            inputs["batch_size"] = FRAMES
        if inputs.get("frames") == 16:
            inputs["frames"] = FRAMES
    return graph


def value(graph: dict, kind: str, name: str):
    (found,) = [node["inputs"][name] for node in graph.values() if node["class_type"] == kind]
    return found


def run(graph: dict) -> dict:
    """Node id -> what it showed or saved, from ComfyUI's own validation and executor."""
    fits, error, outputs, errors = asyncio.run(execution.validate_prompt("test", graph, None))
    assert fits and not errors, (error, errors)
    executor = execution.PromptExecutor(Server(), cache_args={"ram": 0, "ram_inactive": 0})
    executor.execute(graph, "test", {}, outputs)
    assert executor.success, executor.status_messages
    return executor.history_result["outputs"]


@pytest.mark.parametrize("name", GRAPHS)
def test_graph_makes_a_video(stock_nodes, folders, name):
    base, file, expected = GRAPHS[name]
    graph = small(json.loads((API / f"{name}.json").read_text("utf-8")))
    write_checkpoint(base, folders / "checkpoints" / value(graph, "CheckpointLoaderSimple", "ckpt_name"))
    torch.save(file(), folders / "temporal_layers" / value(graph, "EmuVideoLoadTemporalLayers", "temporal_layers"))
    if name.startswith("animate_image"):
        Image.linear_gradient("L").save(folders / "input" / value(graph, "LoadImage", "image"))
    for kind, widget, folder, weights in OTHER_FILES:
        if any(node["class_type"] == kind for node in graph.values()):
            path = folders / folder / value(graph, kind, widget)
            tensors = {key: weight.contiguous() for key, weight in weights().items()}
            (save_file if path.suffix == ".safetensors" else torch.save)(tensors, path)
    run(graph)
    (saved,) = (folders / "output").rglob("*.mp4")
    with av.open(str(saved)) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
        assert (len(frames), video.streams.video[0].average_rate) == expected
    side = int(SIZE * LARGER.get(name, 1))
    assert frames[0].shape == (side, side, 3)
    assert all(np.ptp(frame) > 0 for frame in frames)
