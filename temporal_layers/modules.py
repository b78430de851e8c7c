"""The two modules of Emu Video's temporal layers: TemporalConv and TemporalAttention.

Both map (b t) c h w to the same shape, mix frames only (each pixel by itself), keep the memory layout of
their input (contiguous or channels_last), and are the identity, bit for bit, with the weights that `zero_`
leaves. All weights live in leaf layers of `operations` (torch.nn, or a namespace with the same
constructors that casts weights when called), which are only ever called, never read.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SDPA_BATCH_LIMIT = 2**15  # CUDA's fused attention kernels put batch and heads in grid dimensions of 16 bits


class TemporalConv(nn.Module):
    """x + convolution over frames, kernel 3, zero padding, no activation.

    Emu Video section 3.1 (1D temporal convolution behind every spatial one, identity at the start);
    the kernel size is Make-A-Video's.

    Runs as one Conv2d with a (3, 1) kernel over the image whose height is the frames and whose width is the
    pixels: a view of channels_last activations; contiguous ones are gathered by channel inside the convolution.

    Memory traffic, in reads or writes of the whole activation: 5 (convolution 2, sum 3); contiguous 7.
    """

    def __init__(self, channels: int, operations=nn):
        super().__init__()
        self.conv = operations.Conv2d(channels, channels, (3, 1), padding=(1, 0))

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """x: (b t) c h w with t = frames -> same shape."""
        v = x.flatten(2).unflatten(0, (-1, frames)).transpose(1, 2)  # b c t (h w), a view in both layouts
        v = v + self.conv(v)
        return v.transpose(1, 2).flatten(0, 1).unflatten(2, x.shape[2:])

    def zero_(self) -> None:
        """Zero what makes this module the identity."""
        _zero_(self.conv)


class TemporalAttention(nn.Module):
    """Self-attention over the frames of each pixel, then an MLP; each pre-norm with its own residual.

    Emu Video section 3.1 (1D temporal attention behind every spatial attention; last layer zero). Positions
    are sinusoidal (Vaswani et al., section 3.5) and added to the normalised input, so any number of frames
    runs. Both residual branches end in a linear layer that starts at zero.

    Works on tokens (b, t, h w, c): a view of channels_last activations; contiguous ones are copied once on
    the way in and once on the way out, as a spatial transformer does.

    Memory traffic, in reads or writes of the whole activation: 19 for attention (norm 2, positions 2, q k v 6,
    attention 4, out 2, sum 3) and 23 for the MLP (norm 2, in 5, GELU 8, out 5, sum 3); contiguous 46 in all.
    """

    def __init__(self, channels: int, head_dim: int = 64, operations=nn):
        super().__init__()
        head_dim = min(head_dim, channels)
        if channels % head_dim:
            raise ValueError(f"{channels} channels do not divide into heads of {head_dim}.")
        self.heads = channels // head_dim
        self.norm1 = operations.LayerNorm(channels)
        self.to_q = operations.Linear(channels, channels, bias=False)
        self.to_k = operations.Linear(channels, channels, bias=False)
        self.to_v = operations.Linear(channels, channels, bias=False)
        self.to_out = operations.Linear(channels, channels)
        self.norm2 = operations.LayerNorm(channels)
        self.mlp_in = operations.Linear(channels, 4 * channels)
        self.mlp_out = operations.Linear(4 * channels, channels)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """x: (b t) c h w with t = frames -> same shape."""
        tokens = x.movedim(1, -1).flatten(1, 2).unflatten(0, (-1, frames))  # b t (h w) c
        channels_last = tokens.is_contiguous()
        tokens = tokens.contiguous()
        n = self.norm1(tokens)
        n = n + sinusoidal_positions(frames, n.shape[-1], n.device).to(n.dtype)[:, None]
        tokens = tokens + self.to_out(attend(self.to_q(n), self.to_k(n), self.to_v(n), self.heads))
        tokens = tokens + self.mlp_out(F.gelu(self.mlp_in(self.norm2(tokens))))
        out = tokens.flatten(0, 1).unflatten(1, x.shape[2:]).movedim(-1, 1)
        return out if channels_last else out.contiguous()

    def zero_(self) -> None:
        """Zero what makes this module the identity."""
        _zero_(self.to_out, self.mlp_out)


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


def _zero_(*leaves: nn.Module) -> None:
    for leaf in leaves:
        for parameter in leaf.parameters():
            nn.init.zeros_(parameter)


def sinusoidal_positions(frames: int, channels: int, device: torch.device | None = None) -> Tensor:
    """(frames, channels) in float32: sines of frame / 10000^(2i / channels), then cosines."""
    half = channels // 2
    frequencies = torch.exp(torch.arange(half, device=device) * (-math.log(10000) / half))
    angles = torch.arange(frames, device=device)[:, None] * frequencies
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, channels % 2))
