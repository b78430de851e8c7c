"""TemporalAttention: Emu Video's attention over frames (section 3.1)."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .base import Count, TemporalModule, zero_
from .frames import attend, scaled, sinusoidal_positions


class TemporalAttention(TemporalModule):
    """Self-attention over the frames of each pixel, then an MLP; each pre-norm with its own residual.

    Emu Video section 3.1 (1D temporal attention behind every spatial attention; last layer zero). Positions
    are sinusoidal (Vaswani et al., section 3.5) and added to the normalised input, so any number of frames
    runs. Both residual branches end in a linear layer that starts at zero.

    Works on tokens (b, t, h w, c): a view of channels_last activations; contiguous ones are copied once on
    the way in and once on the way out, as a spatial transformer does.

    Memory traffic, in reads or writes of the whole activation: 19 for attention (norm 2, positions 2, q k v 6,
    attention 4, out 2, sum 3) and 23 for the MLP (norm 2, in 5, GELU 8, out 5, sum 3); contiguous 46 in all.
    """

    def __init__(self, channels: int, head_dim: Count = 64, operations: Any = nn):
        super().__init__()
        head_dim = min(head_dim, channels)
        if not head_dim or channels % head_dim:
            raise ValueError(f"{channels} channels cannot be divided into heads of {head_dim} channels.")
        self.heads = channels // head_dim
        self.key_scale = 1.0
        self.norm1 = operations.LayerNorm(channels)
        self.to_q = operations.Linear(channels, channels, bias=False)
        self.to_k = operations.Linear(channels, channels, bias=False)
        self.to_v = operations.Linear(channels, channels, bias=False)
        self.to_out = operations.Linear(channels, channels)
        self.norm2 = operations.LayerNorm(channels)
        self.mlp_in = operations.Linear(channels, 4 * channels)
        self.mlp_out = operations.Linear(4 * channels, channels)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """Apply attention and MLP to x, (b t) c h w with t = frames; return the same shape."""
        tokens = rearrange(x, "(b t) c h w -> b t (h w) c", t=frames)
        channels_last = tokens.is_contiguous()
        tokens = tokens.contiguous()
        n = self.norm1(tokens)
        n = n + sinusoidal_positions(frames, n.shape[-1], n.device).to(n.dtype)[:, None]
        tokens = tokens + self.to_out(
            attend(self.to_q(n), scaled(self.to_k(n), self.key_scale), self.to_v(n), self.heads)
        )
        tokens = tokens + self.mlp_out(F.gelu(self.mlp_in(self.norm2(tokens))))
        out = rearrange(tokens, "b t (h w) c -> (b t) c h w", h=x.shape[2])
        return out if channels_last else out.contiguous()

    def zero_(self) -> None:
        zero_(self.to_out, self.mlp_out)
