"""Given frames of a conditioning node, as images or latents, and their conversion to latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import comfy.model_management
import comfy.sd
import torch
from torch import Tensor

from ..diffusion.resize import resized


@dataclass(frozen=True, eq=False)
class GivenFrames:
    """Given frames: either images [n, H, W, 3] in 0..1, or latents [n, C, h, w] in the VAE's own scale."""

    images: Tensor | None = None
    latents: Tensor | None = None

    @classmethod
    def read(cls, frames: Tensor | dict[str, Any]) -> GivenFrames:
        """Read an IMAGE or a LATENT. Raises ValueError for the latent of a video model or wrong channels."""
        if not isinstance(frames, dict):
            return cls(images=rgb(frames))
        samples = frames["samples"]
        if samples.ndim != 4:
            raise ValueError(
                "This latent is a whole video of a video model: decode it and connect the frames as images."
            )
        return cls(latents=samples)

    @property
    def count(self) -> int:
        return len(cast(Tensor, self.latents if self.images is None else self.images))

    def part(self, frames: range) -> GivenFrames:
        """Return some consecutive frames."""
        images, latents = (
            None if held is None else held[frames.start : frames.stop] for held in (self.images, self.latents)
        )
        return GivenFrames(images, latents)

    def size(self, vae: comfy.sd.VAE | None) -> tuple[int, int]:
        """Return height and width in pixels."""
        if self.images is not None:
            return self.images.shape[1], self.images.shape[2]
        ratio, latents = compression(vae), cast(Tensor, self.latents)
        return latents.shape[2] * ratio, latents.shape[3] * ratio

    def encoded(self, vae: comfy.sd.VAE | None) -> Tensor:
        """Return the latents [n, C, h, w], in the VAE's own scale."""
        return cast(Tensor, self.latents) if self.images is None else encode(vae, self.images)

    def resized(self, vae: comfy.sd.VAE | None, height: int, width: int) -> GivenFrames:
        """Return the frames as images of another size, by bicubic interpolation. Latents are decoded first."""
        images = self.images if self.latents is None else decode(vae, self.latents)
        return GivenFrames(resized(cast(Tensor, images), height, width))


def rgb(images: Tensor) -> Tensor:
    """Return images [n, H, W, C] as RGB on ComfyUI's device for images: alpha is dropped, grey is repeated.

    With --gpu-only, decoded frames are on the GPU, but those of a video file are not.
    """
    channels = images.shape[-1]
    if channels not in (1, 3, 4):
        raise ValueError(f"The image has {channels} channels: connect one with 1 (grey), 3 (RGB) or 4 (RGBA).")
    three = images.expand(*images.shape[:-1], 3) if channels == 1 else images[..., :3]
    return three.to(comfy.model_management.intermediate_device())


def masks(mask: Tensor) -> Tensor:
    """Return masks [n, H, W]. Those of other packs have 2 to 4 dimensions."""
    return mask.reshape(-1, *mask.shape[-2:])


def one_image(image: Tensor, name: str) -> Tensor:
    """Return a single RGB image [1, H, W, 3]. Raises ValueError for several images; the message calls them `name`."""
    if len(image) != 1:
        raise ValueError(
            f"The {name} must be one image, but {len(image)} are connected: pick one with Get Image from Batch."
        )
    return rgb(image)


def two_images(first: Tensor, last: Tensor) -> Tensor:
    """Return two IMAGEs [1, H, W, C] as one [2, H, W, 3]."""
    pair = one_image(first, "first frame"), one_image(last, "last frame")
    if first.shape[1:3] != last.shape[1:3]:
        sizes = [f"{image.shape[2]}x{image.shape[1]}" for image in pair]
        raise ValueError(f"The first frame is {sizes[0]}, but the last is {sizes[1]}: scale them to the same size.")
    return torch.cat(pair)


def encode(vae: comfy.sd.VAE | None, images: Tensor) -> Tensor:
    """Encode images [n, H, W, 3] to latents [n, C, h, w] in the VAE's own scale."""
    ratio = compression(vae)
    height, width = images.shape[1:3]
    if height % ratio or width % ratio:
        fitting = "x".join(str(max(1, round(size / ratio)) * ratio) for size in (width, height))
        raise ValueError(
            f"The image is {width}x{height}, but width and height must be multiples of {ratio}: "
            f"scale it, for example to {fitting}."
        )
    latents = checked(vae).encode(images)
    if latents.ndim != 4:
        raise ValueError("This VAE encodes whole videos: use the image VAE of the checkpoint.")
    return latents


def decode(vae: comfy.sd.VAE | None, latents: Tensor) -> Tensor:
    """Decode latents [n, C, h, w] in the VAE's own scale to images [n, H, W, 3]."""
    channels = getattr(checked(vae), "latent_channels", latents.shape[1])  # VAEs of other packs may lack it
    if channels != latents.shape[1]:
        raise ValueError(
            f"The latents have {latents.shape[1]} channels, but this VAE decodes {channels}: connect the VAE of the "
            "checkpoint that made them."
        )
    return rgb(checked(vae).decode(latents))


def compression(vae: comfy.sd.VAE | None) -> int:
    """Return the pixels per latent along each side."""
    return cast(int, checked(vae).spacial_compression_encode())


def checked(vae: comfy.sd.VAE | None) -> comfy.sd.VAE:
    """Return the VAE. Raises ValueError if there is none."""
    if vae is None:
        raise ValueError("There is no VAE, because this checkpoint contains none: load one with Load VAE.")
    return vae
