"""The conditionings of a video that PIA's layers make of an image: affinities, and the image on every frame."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher
import comfy.sd
from torch import Tensor

from ..diffusion.affinity import affinities, concat_affinity
from ..temporal_layers.info import AFFINITY
from .conditioning import conditionings, known_latents
from .injection import check_layers


def affinity_conditioning(
    model: comfy.model_patcher.ModelPatcher,
    vae: comfy.sd.VAE | None,
    image: Tensor,
    positive: list,
    negative: list,
    frames: int,
    motion: str,
) -> tuple[list, list, dict[str, Any]]:
    """(positive, negative, empty LATENT of `frames` frames); both know the image, as the layers were guided.

    image: IMAGE [1, H, W, 3] in 0..1. motion: a preset of diffusion.affinity.
    """
    check_layers(model)
    if len(image) != 1:
        raise ValueError(f"PIA animates one image, but {len(image)} were given: pick one with Get Image from Batch.")
    latent = known_latents(model, vae, image, AFFINITY)
    known = concat_affinity(latent, affinities(motion, frames))
    positive, negative, _, empty = conditionings(known, positive, negative, "video", AFFINITY)
    return positive, negative, empty
