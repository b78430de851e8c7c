"""The three conditionings of a video whose first frame is given, and the empty latent to sample it in."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import node_helpers
import torch
from torch import Tensor

from ..diffusion.known_frames import concat_known, first_frame
from .guider import check_layers
from .injection import layers_info

NOISE_CONCAT = "noise_concat"  # the conditioning key that ComfyUI appends to the noisy latent's channels


def first_frame_conditioning(
    model: comfy.model_patcher.ModelPatcher,
    vae: comfy.sd.VAE | None,
    image: Tensor,
    positive: list,
    negative: list,
    frames: int,
) -> tuple[list, list, list, dict[str, Any]]:
    """(text and image, image only, neither, empty LATENT of `frames` frames); `negative` is the null text.

    image: IMAGE [1, H, W, 3] in 0..1. Without an image the known frames and their mask are all zeros.
    """
    if frames < 2:
        raise ValueError(
            f"A video needs at least 2 frames, got {frames}: set frames to the number that the temporal "
            "layers were trained on, or make a single image with KSampler alone."
        )
    check_layers(model)
    latent = encode(vae, image)
    latent_format: Any = model.get_model_object("latent_format")
    if latent.shape[1] != latent_format.latent_channels:
        raise ValueError(
            f"This VAE makes latents of {latent.shape[1]} channels, but the model takes "
            f"{latent_format.latent_channels}: use the VAE of the same checkpoint."
        )
    info = layers_info(model)
    if info is None or info.conditioning_channels != latent.shape[1] + 1:
        raise ValueError("These temporal layers take no first frame: load ones with the role video.")
    known = concat_known(*first_frame(latent_format.process_in(latent), frames))
    empty = torch.zeros(
        frames, *latent.shape[1:], device=comfy.model_management.intermediate_device(), dtype=latent.dtype
    )
    return (
        node_helpers.conditioning_set_values(positive, {NOISE_CONCAT: known}),
        node_helpers.conditioning_set_values(negative, {NOISE_CONCAT: known}),
        node_helpers.conditioning_set_values(negative, {NOISE_CONCAT: torch.zeros_like(known)}),
        {"samples": empty},
    )


def encode(vae: comfy.sd.VAE | None, image: Tensor) -> Tensor:
    """IMAGE [1, H, W, 3] -> latent [1, C, h, w] in the VAE's own scale."""
    if vae is None:
        raise ValueError("There is no VAE: this checkpoint has none, so load one with Load VAE.")
    if len(image) != 1:
        raise ValueError(f"The first frame is one image, but {len(image)} were given: pick one with ImageFromBatch.")
    height, width = image.shape[1:3]
    ratio: Any = vae.spacial_compression_encode()
    if height % ratio or width % ratio:
        fitting = "x".join(str(max(1, round(size / ratio)) * ratio) for size in (width, height))
        raise ValueError(
            f"The image is {width}x{height}, but width and height must be multiples of {ratio}: "
            f"scale it, for example to {fitting}."
        )
    latent = vae.encode(image[..., :3])
    if latent.ndim != 4:
        raise ValueError("This VAE is for whole videos: use the image VAE of the checkpoint.")
    return latent
