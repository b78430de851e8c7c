"""Conditionings for PIA's layers: affinities, and the image on every frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.model_patcher
import comfy.sd
import torch
from torch import Tensor

from ..diffusion.affinity import PRESETS, affinities, check_affinities, concat_affinity
from ..temporal_layers.info import AFFINITY
from .conditioning import ADVICE, Source, check_frame_count, check_role, check_room, conditionings, network_latents
from .given_frames import GivenFrames, masks, one_image
from .prompt_schedule import text_of_window

__all__ = ["PRESETS", "affinity_conditioning"]


def affinity_conditioning(
    model: comfy.model_patcher.ModelPatcher,
    vae: comfy.sd.VAE | None,
    image: Tensor,
    positive: list,
    negative: list,
    *,
    frames: int,
    motion: str,
    own: Sequence[float] | float | Tensor | None = None,
) -> tuple[list, list, dict[str, Any]]:
    """Return (positive, negative, empty LATENT of `frames` frames). Both conditionings contain the image, as in PIA.

    image: IMAGE [1, H, W, 3] in 0..1. motion: a preset of diffusion.affinity. own: affinities that override the preset:
    a number, a list of numbers, or a MASK [n, H, W].
    """
    check_frame_count(frames)
    check_role(model, "video")
    given = GivenFrames(one_image(image, "image"))
    check_room(frames, frames, given.size(vae), ADVICE["video"])
    affinity = affinities(motion, frames) if own is None else check_affinities(_tensor(own), frames)

    def channels(latents: Tensor) -> Tensor:
        return concat_affinity(latents, affinity)

    latents = network_latents(model, given.encoded(vae), AFFINITY)
    source = Source(given, channels)
    texts = [text_of_window(text, start=0, frames=frames, total=frames) for text in (positive, negative)]
    positive, image_only, _, empty = conditionings(
        channels(latents), *texts, role="video", order=AFFINITY, source=source
    )
    return positive, image_only, empty


def _tensor(own: Sequence[float] | float | Tensor) -> Tensor:
    if isinstance(own, Tensor):
        return masks(own) if own.ndim > 1 else own
    return torch.tensor([own] if isinstance(own, int | float) else list(own))
