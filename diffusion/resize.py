"""Resizing of given frames. Sampling and training share it, so layers are trained on what the nodes give them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

ROUNDS = 3  # the first one removes most of the difference
SAME_ASPECT = 0.02  # largest relative difference of two aspect ratios


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


def matched(
    images: Tensor, small: Tensor, strength: float = 1.0, on_frame: Callable[[], None] = lambda: None
) -> Tensor:
    """Return images [n, H, W, 3] in 0..1 that nearly equal `small` [n, h, w, 3] when they are scaled down.

    Back-projection (Irani and Peleg 1991): the difference to the small images is resized and added. Detail that is
    finer than a pixel of the small images stays. strength: the share of the difference that is added. on_frame: called
    after each frame.

    Raises:
        ValueError: the images are not larger than `small`, or their number or aspect ratio differs.
    """
    (count, height, width), (frames, low, narrow) = images.shape[:3], small.shape[:3]
    if count != frames or height <= low or abs(height * narrow / (width * low) - 1) > SAME_ASPECT:
        raise ValueError(
            f"{count} frames of {width}x{height} cannot be matched to {frames} frames of {narrow}x{low}: use the same "
            "video before and after it was upscaled, with all of its frames."
        )
    done = []
    for image, wanted in zip(images.split(1), small.split(1), strict=True):
        done.append(_matched(image, wanted, strength))
        on_frame()
    return torch.cat(done)


def _matched(image: Tensor, small: Tensor, strength: float) -> Tensor:
    dtype = torch.promote_types(image.dtype, small.dtype)
    before, wanted = (each.movedim(-1, 1).to(dtype) for each in (image, small))
    after = before
    for _ in range(ROUNDS):
        missing = wanted - F.interpolate(after, size=wanted.shape[2:], mode="area")
        after = after + F.interpolate(missing, size=after.shape[2:], mode="bicubic")
    return before.lerp(after, strength).clamp(0, 1).movedim(1, -1)
