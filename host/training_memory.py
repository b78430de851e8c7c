"""Memory that a stage of training needs, estimated before it starts."""

from __future__ import annotations

import logging
from typing import cast

import comfy.model_management
import comfy.model_patcher
import torch

from ..temporal_layers.info import LayersInfo
from ..temporal_layers.layers import TemporalLayers
from ..training.clips import Clips
from ..training.low_rank import make_low_rank
from ..training.recipe import Recipe, Stage
from .memory import GIB

ACTIVATIONS = 0.61 * 2**20
"""Bytes that the backward pass keeps per latent pixel and frame, measured for SD1.5 with all layers in float32."""
KEPT = {("float32", False): 1.0, ("float32", True): 0.2, ("bfloat16", False): 0.72, ("bfloat16", True): 0.1}
"""Share of it by precision and gradient checkpointing, for bfloat16 measured on a GPU."""
KEPT_BY_SDXL = 1.4  # times that, without gradient checkpointing: up to ten blocks in one transformer
MOMENTS = {"adamw": 8, "adamw8bit": 2, "muon": 4}  # bytes for each trained weight


def check_memory(
    model: comfy.model_patcher.ModelPatcher, recipe: Recipe, stage: Stage, info: LayersInfo, clips: Clips
) -> None:
    """Raise ValueError, with advice, if a stage needs clearly more memory than the device has."""
    device = comfy.model_management.get_torch_device()
    needed, parts = memory_estimate(model, recipe, stage, info, clips)
    logging.info("Emu Video: training needs about %.1f GiB (%s).", needed / GIB, parts)
    if device.type == "cpu":
        free = cast(int, comfy.model_management.get_free_memory(device))
    else:
        free = cast(int, comfy.model_management.get_total_memory(device))  # other models can be offloaded
    if needed > free:
        raise ValueError(
            f"Training needs about {needed / GIB:.1f} GiB ({parts}), but {device} has {free / GIB:.1f} GiB. "
            f"{advice(stage)}"
        )


def advice(stage: Stage) -> str:
    """Return what makes a stage need less memory."""
    ways = "smaller or shorter clips, clips_at_once 1"
    ways += "" if stage.gradient_checkpointing else ", gradient_checkpointing true"
    ways += "" if stage.precision == "bfloat16" else ", precision bfloat16"
    ways += "" if stage.optimiser == "adamw8bit" else ", optimiser adamw8bit"
    return f"Use {ways}, or fewer layers (train attention, or low_rank)."


def memory_estimate(
    model: comfy.model_patcher.ModelPatcher, recipe: Recipe, stage: Stage, info: LayersInfo, clips: Clips
) -> tuple[int, str]:
    """Return an estimate of a stage's memory in bytes, by purpose."""
    with torch.device("meta"):
        layers = TemporalLayers.of(info)
        if recipe.low_rank:
            make_low_rank(layers, info, recipe.low_rank, 0)
    trained = sum(p.numel() for p in layers.parameters() if p.requires_grad)
    frozen = 4 * sum(p.numel() for p in layers.parameters() if not p.requires_grad)
    frozen += 4 * trained * bool(recipe.prior_prompts)  # the layers before training
    each = 4 + 4 + 4 + MOMENTS[stage.optimiser]  # weights, gradients, average, moments
    base = sum(p.numel() for p in model.model.diffusion_model.parameters()) * (
        2 if stage.precision == "bfloat16" else 4
    )
    frames, _, height, width = max((clips.shape(i) for i in range(len(clips))), key=lambda s: s[2] * s[3])
    wide = next((a.channels for a in info.anchors), 320) / 320
    activations = wide * stage.clips_at_once * activations_of(info.base, stage, frames * height * width)
    parts = {"temporal layers and optimiser": trained * each + frozen, "checkpoint": base, "activations": activations}
    text = ", ".join(f"{name} {value / GIB:.1f}" for name, value in parts.items())
    return int(sum(parts.values())), text


def activations_of(base: str, stage: Stage, latents: int) -> float:
    """Return the bytes that one clip of `latents` pixels and frames keeps for the backward pass."""
    kept = ACTIVATIONS * KEPT[stage.precision, stage.gradient_checkpointing] * latents
    return kept * KEPT_BY_SDXL if base == "sdxl" and not stage.gradient_checkpointing else kept
