"""The three conditionings of a video some of whose frames are given, and the empty latent to sample it in."""

from __future__ import annotations

import logging
from typing import Any, Literal, cast

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import node_helpers
import torch
from torch import Tensor

from ..diffusion.known_frames import add_known_noise, concat_known, first_frame, tell_noise
from ..diffusion.schedule import Schedule
from ..diffusion.windows import Layout
from ..temporal_layers.info import AFFINITY, KNOWN_FRAMES, LayersInfo
from .injection import check_layers, layers_info
from .memory import GIB, check_memory
from .videos import PURPOSE, Purpose

KNOWN_NOISE = 0x6B6E6F776E  # keeps the given frames' noise apart from the initial noise of the same seed
NOISE_CONCAT = "noise_concat"  # the conditioning key that ComfyUI appends to the noisy latent's channels
FEWER = "make it of fewer or smaller frames"
FEWER_BETWEEN = "lower the factor or the size, or go through the video in parts with Get Image from Batch"

Conditionings = tuple[list, list, list, dict[str, Any]]
"""(text and known frames, known frames only, neither, empty LATENT)"""


def first_frame_conditioning(
    model: comfy.model_patcher.ModelPatcher,
    vae: comfy.sd.VAE | None,
    image: Tensor,
    positive: list,
    negative: list,
    frames: int,
) -> Conditionings:
    """The conditionings of `frames` frames that start with `image`; `negative` is the null text.

    image: IMAGE [1, H, W, 3] in 0..1. Without an image the known frames and their mask are all zeros.
    """
    if frames < 2:
        raise ValueError(
            f"A video needs at least 2 frames, got {frames}: set frames to the number that the temporal "
            "layers were trained on, or make a single image with KSampler alone."
        )
    check_role(model, "video")
    if len(image) != 1:
        raise ValueError(
            f"The first frame is one image, but {len(image)} were given: pick one with Get Image from Batch."
        )
    check_room(frames, frames, image.shape[1], image.shape[2], FEWER)
    latent = known_latents(model, vae, image)
    return conditionings(concat_known(*first_frame(latent, frames)), positive, negative, "video")


def layout_conditioning(
    model: comfy.model_patcher.ModelPatcher,
    vae: comfy.sd.VAE | None,
    images: Tensor | dict[str, Any],
    positive: list,
    negative: list,
    layout: Layout,
    role: str = "video",
    noise_level: int = 0,
    seed: int = 0,
) -> list[Conditionings]:
    """One set of conditionings for each window of `layout`, to be sampled one by one.

    images: IMAGE [n, H, W, 3] or LATENT, all given frames. role: of the temporal layers that can do it. noise_level:
    timestep of the given frames' noise augmentation, drawn from `seed`; a frame that two windows know has the same
    noise in both. Layers that were trained to be told the level are told it by the mask.
    The LATENTs carry `batch_index`, the place of each frame in the whole video, by which ComfyUI draws the initial
    noise: one seed serves all windows, and where windows overlap their noise is the same.
    """
    info = check_role(model, role)
    advice = FEWER if role == "video" else FEWER_BETWEEN
    held = layout.frames + sum(window.frames for window in layout.windows)
    first, last = layout.windows[0].given.start, layout.windows[-1].given.stop
    if isinstance(images, dict):
        samples, ratio = frame_latents(images), compression(vae)
        check_room(layout.frames, held, samples.shape[2] * ratio, samples.shape[3] * ratio, advice)
        latents = network_latents(model, samples[first:last])
    else:
        check_room(layout.frames, held, images.shape[1], images.shape[2], advice)
        latents = known_latents(model, vae, images[first:last])
    schedule = Schedule.from_betas(**info.betas, zero_terminal_snr=info.zero_terminal_snr)
    latents = add_known_noise(latents, noise_level, schedule, torch.Generator().manual_seed(seed ^ KNOWN_NOISE))
    results = []
    for window in layout.windows:
        known, mask = layout.known(latents[window.given.start - first : window.given.stop - first], window)
        if info.noise_told:
            mask = tell_noise(mask, noise_level, schedule)
        result = conditionings(concat_known(known, mask), positive, negative, role)
        result[-1]["batch_index"] = list(range(window.start, window.start + window.frames))
        results.append(result)
    return results


def check_role(model: comfy.model_patcher.ModelPatcher, role: str) -> LayersInfo:
    """What is known of the MODEL's temporal layers; raises ValueError where they were trained for another role."""
    info = check_layers(model)
    if info.role != role:
        raise ValueError(
            f"These temporal layers have the role {info.role}, this node needs ones with the role {role}: pick another "
            "file in Load Temporal Layers."
        )
    return info


def conditionings(known: Tensor, positive: list, negative: list, role: str, order: str = KNOWN_FRAMES) -> Conditionings:
    """known: [T, C + 1, h, w], in the network's scale. role, order: see `Purpose`."""
    empty = torch.zeros(
        len(known),
        known.shape[1] - 1,
        *known.shape[2:],
        device=comfy.model_management.intermediate_device(),
        dtype=known.dtype,
    )

    def made(text: list, part: Literal["positive", "image_only", "negative"], channels: Tensor) -> list:
        purpose = Purpose(role, part, len(known), order)
        return node_helpers.conditioning_set_values(text, {NOISE_CONCAT: channels, PURPOSE: purpose})

    return (
        made(positive, "positive", known),
        made(negative, "image_only", known),
        made(negative, "negative", torch.zeros_like(known)),
        {"samples": empty},
    )


def known_latents(
    model: comfy.model_patcher.ModelPatcher, vae: comfy.sd.VAE | None, images: Tensor, conditioning: str = KNOWN_FRAMES
) -> Tensor:
    """IMAGE [n, H, W, 3] -> latents [n, C, h, w] in the scale that the network sees. Errors: see `network_latents`."""
    return network_latents(model, encode(vae, images), conditioning)


def network_latents(
    model: comfy.model_patcher.ModelPatcher, latents: Tensor, conditioning: str = KNOWN_FRAMES
) -> Tensor:
    """Latents [n, C, h, w] in the VAE's own scale -> in the scale that the network sees.

    conditioning: the order of channels that the caller makes of them. Raises ValueError for latents of another model,
    and for temporal layers that take no known frames, or in another order.
    """
    latent_format: Any = model.get_model_object("latent_format")
    if latents.shape[1] != latent_format.latent_channels:
        raise ValueError(
            f"There are latents of {latents.shape[1]} channels, but the model takes {latent_format.latent_channels}: "
            "use the VAE of the same checkpoint, and latents that were made with it."
        )
    info = layers_info(model)
    if info is None or info.conditioning_channels != latents.shape[1] + 1:
        family = f" ({info.family})" if info else ""
        raise ValueError(
            f"These temporal layers{family} take no first frame: load ones with the role video that do, or sample an "
            "empty latent batch with KSampler."
        )
    if info.conditioning != conditioning:
        node = "Image and Affinity Conditioning" if info.conditioning == AFFINITY else "First Frame Conditioning"
        raise ValueError(f"These temporal layers ({info.family}) take their image in another way: use {node}.")
    return latent_format.process_in(latents)


def encode(vae: comfy.sd.VAE | None, images: Tensor) -> Tensor:
    """IMAGE [n, H, W, 3] -> latents [n, C, h, w] in the VAE's own scale."""
    ratio = compression(vae)
    height, width = images.shape[1:3]
    if height % ratio or width % ratio:
        fitting = "x".join(str(max(1, round(size / ratio)) * ratio) for size in (width, height))
        raise ValueError(
            f"The image is {width}x{height}, but width and height must be multiples of {ratio}: "
            f"scale it, for example to {fitting}."
        )
    latents = cast(comfy.sd.VAE, vae).encode(images[..., :3])
    if latents.ndim != 4:
        raise ValueError("This VAE is for whole videos: use the image VAE of the checkpoint.")
    return latents


def compression(vae: comfy.sd.VAE | None) -> int:
    """Pixels to a latent, along each side."""
    if vae is None:
        raise ValueError("There is no VAE: this checkpoint has none, so load one with Load VAE.")
    return cast(int, vae.spacial_compression_encode())


def frame_latents(latent: dict[str, Any]) -> Tensor:
    """The frames [n, C, h, w] of a LATENT, in the VAE's own scale."""
    samples = latent["samples"]
    if samples.ndim != 4:
        raise ValueError("This latent is a whole video of a video model: decode it and connect the frames as images.")
    return samples


def two_images(first: Tensor, last: Tensor) -> Tensor:
    """Two IMAGEs [1, H, W, 3] as one [2, H, W, 3]."""
    for name, image in (("first", first), ("last", last)):
        if len(image) != 1:
            raise ValueError(
                f"The {name} frame is one image, but {len(image)} were given: pick one with Get Image from Batch."
            )
    if first.shape[1:3] != last.shape[1:3]:
        sizes = [f"{image.shape[2]}x{image.shape[1]}" for image in (first, last)]
        raise ValueError(f"The first frame is {sizes[0]}, but the last is {sizes[1]}: scale them to the same size.")
    return torch.cat((first[..., :3], last[..., :3]))


def check_room(frames: int, held: int, height: int, width: int, advice: str) -> None:
    """Logs what the decoded frames of a video will take, and raises ValueError where there is not that much left.

    held: how many frames are in memory at once: the video's, and those of its windows before they are joined.
    """
    needed = held * height * width * 3 * 4  # float32, as an IMAGE is
    what = f"{frames} frames of {width}x{height}"
    logging.info(f"Emu Video: {what} take about {needed / GIB:.2f} GiB when they are decoded.")
    check_memory(needed, what, advice, comfy.model_management.intermediate_device())
