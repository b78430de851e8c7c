"""One narrow UNet of each family, with the same random weights as ComfyUI's and as diffusers' class."""

from __future__ import annotations

from typing import Any

import comfy.ops
import comfy.utils
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from emu_video.benchmarks import unets
from emu_video.host.injection import load_patcher
from emu_video.temporal_layers.attach import attach
from emu_video.temporal_layers.info import LayersInfo
from emu_video.temporal_layers.layers import TemporalLayers
from emu_video.tests.temporal_layers.formats import public
from torch import Tensor

FRAMES = 5
CONTEXT = 24
SD15 = unets.SD15 | {"model_channels": public.SD15[0], "channel_mult": [1, 2, 2, 2], "context_dim": CONTEXT}
SD21 = unets.SD21 | {"model_channels": public.SD21[0], "channel_mult": [1, 1, 2, 2], "context_dim": CONTEXT}
SDXL = unets.SDXL | {
    "model_channels": public.SDXL[0],
    "channel_mult": [1, 2, 2],
    "transformer_depth": [0, 0, 2, 2, 3, 3],
    "transformer_depth_middle": 3,
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 3, 3, 3],
    "context_dim": CONTEXT,
    "num_head_channels": 32,
    "adm_in_channels": 6 * 8 + 10,
}
CONFIGS = {"sd15": SD15, "sd21": SD21, "sdxl": SDXL}


def comfy_unet(base: str) -> UNetModel:
    unet = UNetModel(**CONFIGS[base], dtype=torch.float32, operations=comfy.ops.manual_cast)
    random = public.Random(7)
    for parameter in unet.parameters():
        weight = random(*parameter.shape)
        parameter.data = weight if parameter.ndim > 1 else 0.1 * weight
    for name, parameter in unet.named_parameters():
        if parameter.ndim == 1 and name.endswith("weight"):
            parameter.data += 1
    return unet


def diffusers_weights(base: str, unet: UNetModel) -> dict[str, Tensor]:
    """The UNet's weights under diffusers' names, by ComfyUI's own table."""
    names, weights = comfy.utils.unet_to_diffusers(CONFIGS[base]), unet.state_dict()
    return {theirs: weights[ours] for theirs, ours in names.items() if ours in weights}


def diffusers_unet(base: str, unet: UNetModel) -> UNet2DConditionModel:
    """An image UNet of SD1.5 or SDXL."""
    options: dict[str, Any] = {"cross_attention_dim": CONTEXT, "norm_num_groups": 32}
    if base == "sd15":
        options |= {"block_out_channels": public.SD15, "attention_head_dim": 8}
    else:
        options |= {
            "block_out_channels": public.SDXL,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 3),
            "attention_head_dim": (1, 2, 2),
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": SDXL["adm_in_channels"],
        }
    reference = UNet2DConditionModel(**options)
    load(reference, diffusers_weights(base, unet))
    return reference


def load(module: torch.nn.Module, weights: dict[str, Tensor], assign: bool = False) -> None:
    """Load every weight of `module`; more may be given. assign: share their memory."""
    module.load_state_dict({key: weights[key] for key in module.state_dict()}, assign=assign)
    module.eval().requires_grad_(False)


def inputs(videos: int = 2, conditioning_channels: int = 0, seed: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """x [(b t), C, h, w], timesteps [(b t)], context [(b t), l, d]: one timestep and one text for each video."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(videos * FRAMES, 4 + conditioning_channels, 16, 16, generator=generator)
    timesteps = torch.linspace(100, 700, videos)
    context = torch.randn(videos, 7, CONTEXT, generator=generator)
    return x, timesteps.repeat_interleave(FRAMES), context.repeat_interleave(FRAMES, dim=0)


def hang(unet: UNetModel, state_dict: dict[str, Tensor], info: LayersInfo) -> TemporalLayers:
    """Hang converted layers on a UNet as the injection does."""
    cpu = torch.device("cpu")
    layers = load_patcher(state_dict, info, (cpu, cpu), torch.float32).model
    layers.frames = FRAMES
    attach(unet, layers, owner=unet)  # for as long as the UNet lives
    return layers


def as_video(x: Tensor) -> Tensor:
    """(b t) c h w -> b c t h w"""
    return x.unflatten(0, (-1, FRAMES)).transpose(1, 2)


def relative(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()
