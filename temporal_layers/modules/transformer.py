"""TemporalTransformer: the temporal attention block of AnimateDiff's family and of ModelScope.

One module under several key names (formats/): AnimateDiff (Guo et al. 2023, section 4.2), HotshotXL, PIA, FancyVideo
and, without positions, ModelScopeT2V (Wang et al. 2023, section 3.2).
"""

from __future__ import annotations

from typing import Any, Literal

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .base import Count, TemporalModule, zero_
from .frames import attend, check_positions, group_norm_over_frames, interleaved_positions, scaled

GROUPS = 32
Norm = Literal["frame", "clip"]
"""Whether a group norm takes its statistics over one frame or over all frames of a clip."""


class TemporalTransformer(TemporalModule):
    """x + out(block(in(group norm(x)))): two self-attentions over the frames of each pixel and a GEGLU MLP, pre-norm.

    heads, head_dim: attention heads and channels per head. Give one; the other follows from `channels`.
    positions: length of the sinusoidal position table, added to the input of each attention. 0 = no positions, so any
        number of frames runs.
    norm: whether the group norm takes its statistics over one "frame" or over the whole "clip". Published weights were
        trained with one of the two, and the wrong one changes the result as much as the block itself does.
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: Count = 0,
        head_dim: Count = 0,
        positions: Count = 0,
        norm: Norm = "frame",
        operations: Any = nn,
    ):
        super().__init__()
        check_groups(channels)
        if not (heads or head_dim) or (heads or channels // head_dim) < 1 or (head_dim or channels // heads) < 1:
            raise ValueError(f"{channels} channels cannot be divided into {heads} heads of {head_dim} channels.")
        self.heads = heads or channels // head_dim
        width = self.heads * (head_dim or channels // heads)
        self.positions = positions
        self.over_clip = norm == "clip"
        self.norm = operations.GroupNorm(GROUPS, channels, eps=1e-6)
        self.proj_in = operations.Linear(channels, width)
        self.norm1 = operations.LayerNorm(width)
        self.attention1 = SelfAttention(width, self.heads, operations)
        self.norm2 = operations.LayerNorm(width)
        self.attention2 = SelfAttention(width, self.heads, operations)
        self.norm3 = operations.LayerNorm(width)
        self.mlp_in = operations.Linear(width, 8 * width)
        self.mlp_out = operations.Linear(4 * width, width)
        self.proj_out = operations.Linear(width, channels)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """Apply the block to x, (b t) c h w with t = frames; return the same shape.

        Raises ValueError for more frames than `positions`.
        """
        n = group_norm_over_frames(self.norm, x, frames) if self.over_clip else self.norm(x)
        tokens = rearrange(n, "(b t) c h w -> b t (h w) c", t=frames).contiguous()
        tokens = self.proj_in(tokens)
        positions = self._positions(frames, tokens)
        tokens = tokens + self.attention1(self.norm1(tokens) + positions)
        tokens = tokens + self.attention2(self.norm2(tokens) + positions)
        values, gates = self.mlp_in(self.norm3(tokens)).chunk(2, dim=-1)
        tokens = tokens + self.mlp_out(values * F.gelu(gates))
        return x + rearrange(self.proj_out(tokens), "b t (h w) c -> (b t) c h w", h=x.shape[2])

    def zero_(self) -> None:
        zero_(self.proj_out)

    def _positions(self, frames: int, tokens: Tensor) -> Tensor | float:
        if not self.positions:
            return 0.0
        check_positions(frames, self.positions)
        return interleaved_positions(frames, tokens.shape[-1], tokens.device).to(tokens.dtype)[:, None]


class SelfAttention(nn.Module):
    """Self-attention over frames. Input and output: (b, t, n, c)."""

    def __init__(self, channels: int, heads: int, operations: Any = nn):
        super().__init__()
        self.heads = heads
        self.key_scale = 1.0
        self.to_q = operations.Linear(channels, channels, bias=False)
        self.to_k = operations.Linear(channels, channels, bias=False)
        self.to_v = operations.Linear(channels, channels, bias=False)
        self.to_out = operations.Linear(channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.to_out(
            attend(self.to_q(tokens), scaled(self.to_k(tokens), self.key_scale), self.to_v(tokens), self.heads)
        )


def check_groups(channels: int) -> None:
    """Raise ValueError unless `channels` is a multiple of GROUPS."""
    if channels % GROUPS:
        raise ValueError(f"{channels} channels cannot be divided into the {GROUPS} groups of the group norm.")
