"""Optical-flow interpolation inside ComfyUI, with its device, memory check, progress bar and Cancel."""

from __future__ import annotations

import comfy.model_management
import comfy.utils
import torch
from torch import Tensor

from ..optical_flow.between import frames_between
from .memory import check_memory

WORKING_BYTES = 320
"""Working memory per pixel of a frame: about 80 float32 planes (measured by the tests of this room)."""


def interpolate(images: Tensor, factor: int) -> Tensor:
    """Interpolate an IMAGE [n, H, W, C] to [(n - 1) * factor + 1, H, W, C]. The given frames stay unchanged."""
    count, height, width, channels = images.shape
    if count < 2:
        raise ValueError(
            f"Interpolation needs at least 2 frames, got {count}: connect all frames of a video, or "
            "put single images together with Batch Images."
        )
    out = comfy.model_management.intermediate_device()
    device = comfy.model_management.get_torch_device()
    if device.type != "cuda":  # other devices lack bicubic sampling in some versions of torch
        device = torch.device("cpu")
    new_frames = frames_between(images, factor, device)
    frames = (count - 1) * factor + 1
    needed = (frames * channels * images.element_size() + WORKING_BYTES) * height * width
    advice = "lower the factor, scale the frames down, or interpolate the video in parts"
    check_memory(needed, f"{frames} frames of {width}x{height}", advice, out)
    if device.type != "cpu":
        comfy.model_management.free_memory(WORKING_BYTES * height * width, device)
    result = torch.empty(frames, height, width, channels, dtype=images.dtype, device=out)
    result[::factor] = images
    new = [index for index in range(frames) if index % factor]
    progress = comfy.utils.ProgressBar(len(new))
    for index, frame in zip(new, new_frames, strict=True):
        comfy.model_management.throw_exception_if_processing_interrupted()
        result[index] = frame
        progress.update(1)
    return result
