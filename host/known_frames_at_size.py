"""Conditionings at another size, for a second pass over an upscaled latent."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher
import comfy.sd
import torch
from torch import Tensor

from .conditioning import NOISE_CONCAT, SOURCE, Source, network_latents
from .given_frames import GivenFrames, compression
from .videos import PURPOSE


def conditionings_at_size(
    model: comfy.model_patcher.ModelPatcher, vae: comfy.sd.VAE | None, samples: Tensor, *made: list
) -> list[list]:
    """Return the conditionings `made` with their known frames scaled to the size of the latent `samples`.

    The known frames are scaled as images and encoded again, because scaled latents are blurred.

    Raises:
        ValueError: for conditionings that were not made from images by this pack.
    """
    ratio = compression(vae)
    size = samples.shape[-2] * ratio, samples.shape[-1] * ratio
    encoded: dict[int, Tensor] = {}

    def latents(given: GivenFrames, order: str) -> Tensor:
        if id(given) not in encoded:  # positive and image_only know the same frames
            encoded[id(given)] = network_latents(model, given.resized(vae, *size).encoded(vae), order)
        return encoded[id(given)]

    def at_size(options: dict[str, Any]) -> dict[str, Any]:
        source: Source | None = options.get(SOURCE)
        if source is None:
            raise ValueError(
                "This conditioning has no known frames that can be scaled: connect one of First Frame Conditioning or "
                "of another conditioning node of Emu Video, except Super-Resolution Conditioning."
            )
        purpose = options[PURPOSE]
        channels = source.channels(latents(source.given, purpose.order))
        return options | {NOISE_CONCAT: torch.zeros_like(channels) if purpose.part == "negative" else channels}

    return [[[text, at_size(options)] for text, options in conditioning] for conditioning in made]
