"""Resizing of given frames. Sampling and training share it, so layers are trained on what the nodes give them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def resized(images: Tensor, height: int, width: int) -> Tensor:
    """Return images [n, H, W, 3] in 0..1 at another size, by bicubic interpolation."""
    if images.shape[1:3] == (height, width):
        return images
    scaled = F.interpolate(images.movedim(-1, 1), size=(height, width), mode="bicubic")
    return scaled.movedim(1, -1).clamp(0, 1)


def downscaled(images: Tensor, factor: int) -> Tensor:
    """Return images [n, H, W, 3] scaled down by an integer factor. Each pixel is the mean of a box.

    Raises:
        ValueError: height or width is not a multiple of `factor`.
    """
    height, width = images.shape[1:3]
    if height % factor or width % factor:
        raise ValueError(f"Frames of {width}x{height} cannot be divided by {factor}: use multiples of {factor}.")
    return F.avg_pool2d(images.movedim(-1, 1), factor).movedim(1, -1)


def upsampled(images: Tensor, factor: int) -> Tensor:
    """Return the known frames of super-resolution for a video [n, H, W, 3]: downscaled, then resized to its size."""
    return resized(downscaled(images, factor), *images.shape[1:3])
