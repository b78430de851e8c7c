"""Frames between frames inside ComfyUI: its device, its memory, its progress bar and its stop button."""

from __future__ import annotations

import comfy.model_management
import comfy.utils
import torch
from torch import Tensor

from ..optical_flow.between import frames_between

WORKING_BYTES = 320
"""Per pixel of a frame, while one new frame is made: about 80 float32 planes (measured by the tests of this room)."""


def interpolate(images: Tensor, factor: int) -> Tensor:
    """IMAGE [n, H, W, C] -> IMAGE [(n - 1) * factor + 1, H, W, C]; the given frames are in it unchanged."""
    count, height, width, channels = images.shape
    if count < 2:
        raise ValueError(f"Interpolation needs at least 2 frames, got {count}: connect all frames of a video.")
    if factor < 2:
        raise ValueError(f"The factor must be 2 or more, got {factor}: 2 puts one new frame between any two.")
    frames = (count - 1) * factor + 1
    out = comfy.model_management.intermediate_device()
    device = comfy.model_management.get_torch_device()
    if device.type != "cuda":  # others lack bicubic look-ups in some versions of torch
        device = torch.device("cpu")
    check_memory(frames, height, width, channels * images.element_size(), out)
    if device.type != "cpu":
        comfy.model_management.free_memory(WORKING_BYTES * height * width, device)
    result = torch.empty(frames, height, width, channels, dtype=images.dtype, device=out)
    result[::factor] = images
    new = [index for index in range(frames) if index % factor]
    progress = comfy.utils.ProgressBar(len(new))
    for index, frame in zip(new, frames_between(images, factor, device), strict=True):
        comfy.model_management.throw_exception_if_processing_interrupted()
        result[index] = frame
        progress.update(1)
    return result


def check_memory(frames: int, height: int, width: int, pixel_bytes: int, device: torch.device) -> None:
    """Refuses, before anything is computed, a result that does not fit into what is free."""
    needed = (frames * pixel_bytes + WORKING_BYTES) * height * width
    free = comfy.model_management.get_free_memory(device)
    if needed > free:
        raise ValueError(
            f"{frames} frames of {width}x{height} need {needed / 1e9:.1f} GB of memory, but {free / 1e9:.1f} GB are "
            "free: lower the factor, scale the frames down, or interpolate the video in parts."
        )
