"""Dense optical flow between two frames, both ways, and where the two ways agree.

Kroeger et al., "Fast Optical Flow using Dense Inverse Search" (DIS, 2016), as OpenCV has it, on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .warp import positions, warp

SMALLEST = 32  # pixels; on smaller pictures DIS has no room for its 8 x 8 patches


@dataclass(frozen=True)
class Flow:
    """What moves where between two frames, in pixels, and which pixels are in both.

    forward: [1, 2, H, W], (x, y): pixel p of the first frame is at p + forward(p) in the second. backward: the reverse.
    first_seen: [1, 1, H, W] in 0..1, 1 where a pixel of the first frame is visible in the second. second_seen: the
    reverse.
    """

    forward: Tensor
    backward: Tensor
    first_seen: Tensor
    second_seen: Tensor


def luminance(frame: Tensor) -> np.ndarray:
    """[1, C, H, W] in 0..1 -> uint8 [H, W] (BT.601; one channel is taken as it is), padded to a size that DIS takes."""
    rgb = frame[0, :3] if frame.shape[1] >= 3 else frame[0, :1].expand(3, -1, -1)
    grey = torch.einsum("chw,c->hw", rgb.float(), rgb.new_tensor([0.299, 0.587, 0.114], dtype=torch.float32))
    height, width = grey.shape
    missing = (0, max(0, SMALLEST - width), 0, max(0, SMALLEST - height))
    grey = F.pad(grey[None, None], missing, mode="replicate")[0, 0]
    return (grey.nan_to_num().clamp(0, 1) * 255).round().byte().cpu().numpy()


def estimate(first: Tensor, second: Tensor) -> Flow:
    """The flow between two frames [1, C, H, W] of 0..1, on their device."""
    import cv2

    height, width = first.shape[2:]
    one, other = luminance(first), luminance(second)
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    start: Any = None  # DIS begins from no motion, which OpenCV's type hints do not know
    forward, backward = (
        torch.from_numpy(dis.calc(*pair, start))
        .to(first.device)
        .permute(2, 0, 1)[None, :, :height, :width]
        .contiguous()
        for pair in ((one, other), (other, one))
    )
    return Flow(forward, backward, seen(forward, backward), seen(backward, forward))


def seen(there: Tensor, back: Tensor) -> Tensor:
    """Forward-backward check: 1 where going there and back ends where it began, falling to 0 as it does not.

    there, back: [1, 2, H, W] -> [1, 1, H, W]. The form is that of Sundaram, Brox and Keutzer, "Dense Point
    Trajectories by GPU-Accelerated Large Displacement Optical Flow" (2010), equation 5, but soft, and with a tolerance
    that grows as the motion does: their 0.01 refuses most of what DIS finds rightly in fast motion (measured: 1 dB).
    """
    height, width = there.shape[2:]
    x, y = positions(there)
    inside = (x > -1) & (x < width) & (y > -1) & (y < height)
    returned = warp(back, there)
    error = (there + returned).square().sum(1, keepdim=True)
    tolerance = (there.square() + returned.square()).sum(1, keepdim=True) + 1
    return torch.exp(-error / tolerance) * inside[:, None]
