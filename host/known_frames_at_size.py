"""Conditionings at another size, for a second pass over an upscaled latent."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Return the conditionings `made` with their known frames, areas and boxes scaled to the latent `samples`.

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
        changed = {NOISE_CONCAT: torch.zeros_like(channels) if purpose.part == "negative" else channels}
        return scaled_regions(options, options[NOISE_CONCAT].shape[2:], channels.shape[2:]) | changed

    return [[[text, at_size(options)] for text, options in conditioning] for conditioning in made]


def scaled_regions(options: dict[str, Any], old: Sequence[int], new: Sequence[int]) -> dict[str, Any]:
    """Return the options of a conditioning with area and GLIGEN boxes scaled from latents of size `old` to `new`.

    ComfyUI has both in latents (height, width, y, x), but an area of Conditioning (Set Area with Percentage) in shares.
    """

    def scaled(height: int, width: int, y: int, x: int) -> tuple[int, int, int, int]:
        # Edges are rounded, not lengths, so that neighbours still meet.
        (top, left), (bottom, right) = (
            [round(edge * after / before) for edge, before, after in zip(edges, old, new, strict=True)]
            for edges in ((y, x), (y + height, x + width))
        )
        return max(1, bottom - top), max(1, right - left), top, left

    changed = {}
    if "area" in options and options["area"][0] != "percentage":
        changed["area"] = scaled(*options["area"])
    if options.get("gligen", ("",))[0] == "position":
        kind, gligen, boxes = options["gligen"]
        changed["gligen"] = kind, gligen, [(text, *scaled(*box)) for text, *box in boxes]
    return options | changed
