"""Functions shared by temporal modules: attention over frames, positions of frames, group norms over frames."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

ANIMATELCM_POSITIONS = 64
SDPA_BATCH_LIMIT = 2**15  # CUDA's fused attention kernels put batch and heads in grid dimensions of 16 bits


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Scaled dot-product attention over frames. q, k, v: (b, t, n, c) -> (b, t, n, c).

    Pixels and heads are one axis of attention heads, so that the fused kernel reads each (frames, head width)
    matrix through strides, without a copy. On the CPU in half precision two batched products are faster than
    that kernel (bfloat16, 8 frames, forward and backward: 2 to 2.5 times).
    """
    b, t, n, c = q.shape
    q, k, v = (z.reshape(b, t, n * heads, c // heads).transpose(1, 2) for z in (q, k, v))
    if q.device.type == "cpu" and q.dtype != torch.float32:
        out = ((q @ k.transpose(-1, -2)) * (c // heads) ** -0.5).softmax(-1) @ v
    elif q.shape[1] <= SDPA_BATCH_LIMIT:
        out = F.scaled_dot_product_attention(q, k, v)
    else:
        parts = zip(*(z.split(SDPA_BATCH_LIMIT, dim=1) for z in (q, k, v)), strict=True)
        out = torch.cat([F.scaled_dot_product_attention(*part) for part in parts], dim=1)
    return out.transpose(1, 2).reshape(b, t, n, c)


def scaled(keys: Tensor, scale: float) -> Tensor:
    """Return keys times `scale`, bit for bit the same at 1. Larger keys make attention pick fewer frames."""
    return keys if scale == 1.0 else keys * scale


def sinusoidal_positions(frames: int, channels: int, device: torch.device | None = None) -> Tensor:
    """Return (frames, channels) in float32: sines of frame / 10000^(2i / channels), then cosines."""
    half = channels // 2
    frequencies = torch.exp(torch.arange(half, device=device) * (-math.log(10000) / half))
    angles = torch.arange(frames, device=device)[:, None] * frequencies
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, channels % 2))


def interleaved_positions(frames: int, channels: int, device: torch.device | None = None) -> Tensor:
    """Return (frames, channels) in float32: sine and cosine of frame / 10000^(2i / channels) at channels 2i, 2i + 1."""
    return sinusoidal_positions(frames, channels, device).unflatten(1, (2, -1)).transpose(1, 2).flatten(1)


def check_positions(frames: int, positions: int) -> None:
    """Raise ValueError if there are more frames than trained positions."""
    if frames > positions:
        # A file without a position table may be AnimateLCM's, but its weights do not show it.
        hint = f" For AnimateLCM files ({ANIMATELCM_POSITIONS} positions), choose that family when loading."
        raise ValueError(
            f"The video has {frames} frames, but these temporal layers were trained with {positions} positions; "
            f"make at most {positions} frames, or sample in context windows of at most {positions}."
            f"{hint if frames <= ANIMATELCM_POSITIONS else ''}"
        )


def group_norm_over_frames(norm: Callable[[Tensor], Tensor], x: Tensor, frames: int) -> Tensor:
    """Apply a group norm with the statistics of whole videos. x: (b t) c h w with t = frames -> same shape."""
    video = rearrange(x, "(b t) c h w -> b c t (h w)", t=frames)
    return rearrange(norm(video), "b c t (h w) -> (b t) c h w", h=x.shape[2])
