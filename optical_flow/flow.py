"""Dense optical flow between two frames in both directions, with a forward-backward check.

Kroeger et al., "Fast Optical Flow using Dense Inverse Search" (DIS, 2016), by OpenCV on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .warp import positions, warp

SMALLEST = 32  # pixels per side; smaller pictures have no room for the 8 x 8 patches of DIS


@dataclass(frozen=True)
class Flow:
    """Optical flow between two frames in pixels, and the visibility of each pixel in the other frame.

    forward: [1, 2, H, W], (x, y): pixel p of the first frame is at p + forward(p) in the second. backward: the reverse.
    first_seen: [1, 1, H, W] in 0..1, 1 where a pixel of the first frame is visible in the second. second_seen: the
    reverse.
    """

    forward: Tensor
    backward: Tensor
    first_seen: Tensor
    second_seen: Tensor


def luminance(frame: Tensor) -> np.ndarray:
    """Convert [1, C, H, W] in 0..1 to luminance, uint8 [H, W] (BT.601), padded to the smallest size for DIS."""
    rgb = frame[0, :3] if frame.shape[1] >= 3 else frame[0, :1].expand(3, -1, -1)
    grey = torch.einsum("chw,c->hw", rgb.float(), rgb.new_tensor([0.299, 0.587, 0.114], dtype=torch.float32))
    height, width = grey.shape
    missing = (0, max(0, SMALLEST - width), 0, max(0, SMALLEST - height))
    grey = F.pad(grey[None, None], missing, mode="replicate")[0, 0]
    return (grey.nan_to_num().clamp(0, 1) * 255).round().byte().cpu().numpy()


def estimate(first: Tensor, second: Tensor) -> Flow:
    """Estimate the flow between two frames [1, C, H, W] in 0..1; the result is on their device."""
    import cv2

    height, width = first.shape[2:]
    one, other = luminance(first), luminance(second)
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    start: Any = None  # DIS starts without motion, which OpenCV's type hints do not allow
    forward, backward = (
        torch.from_numpy(dis.calc(*pair, start))
        .to(first.device)
        .permute(2, 0, 1)[None, :, :height, :width]
        .contiguous()
        for pair in ((one, other), (other, one))
    )
    return Flow(forward, backward, seen(forward, backward), seen(backward, forward))


def seen(there: Tensor, back: Tensor) -> Tensor:
    """Return the forward-backward check: 1 where following both flows returns to the start, falling to 0 elsewhere.

    there, back: [1, 2, H, W] -> [1, 1, H, W]. The form follows Sundaram, Brox and Keutzer, "Dense Point Trajectories by
    GPU-Accelerated Large Displacement Optical Flow" (2010), equation 5, with a soft threshold and a tolerance that
    grows with the motion. Their constant of 0.01 rejects most correct flow of DIS in fast motion (measured: 1 dB).
    """
    height, width = there.shape[2:]
    x, y = positions(there)
    inside = (x > -1) & (x < width) & (y > -1) & (y < height)
    returned = warp(back, there)
    error = (there + returned).square().sum(1, keepdim=True)
    tolerance = (there.square() + returned.square()).sum(1, keepdim=True) + 1
    return torch.exp(-error / tolerance) * inside[:, None]
