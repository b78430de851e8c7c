"""TemporalTransformer: the temporal attention block of AnimateDiff's family and of ModelScope.

One module under several key names (formats/): AnimateDiff (Guo et al. 2023, section 4.2), HotshotXL, PIA, FancyVideo
and, without positions, ModelScopeT2V (Wang et al. 2023, section 3.2).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .modules import attend, sinusoidal_positions

GROUPS = 32
NORMS = ("frame", "clip")


class TemporalTransformer(nn.Module):
    """x + out(block(in(group norm(x)))): two self-attentions over the frames of each pixel and a GEGLU MLP, pre-norm.

    heads, head_dim: of the attentions, whose width is their product; give one and the other follows from `channels`.
    positions: frames that the sinusoidal positions were trained for, added to the input of each attention;
        0 = no positions, any number of frames.
    norm: whether the group norm takes its statistics over one "frame" or over the whole "clip". Published weights
        were trained with one or the other, and the difference is as large as the block's own output.
    """

    def __init__(
        self, channels: int, heads: int = 0, head_dim: int = 0, positions: int = 0, norm: str = "frame", operations=nn
    ):
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f'the group norm is over "{norm}"; use "frame" or "clip".')
        if channels % GROUPS or not (heads or head_dim):
            raise ValueError(f"a temporal transformer needs a multiple of {GROUPS} channels, and heads or head_dim.")
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
        """x: (b t) c h w with t = frames -> same shape. Raises ValueError for more frames than positions."""
        n = over_clip(self.norm, x, frames) if self.over_clip else self.norm(x)
        tokens = n.movedim(1, -1).flatten(1, 2).unflatten(0, (-1, frames)).contiguous()  # b t (h w) c
        tokens = self.proj_in(tokens)
        positions = self._positions(frames, tokens)
        tokens = tokens + self.attention1(self.norm1(tokens) + positions)
        tokens = tokens + self.attention2(self.norm2(tokens) + positions)
        values, gates = self.mlp_in(self.norm3(tokens)).chunk(2, dim=-1)
        tokens = tokens + self.mlp_out(values * F.gelu(gates))
        out = self.proj_out(tokens).flatten(0, 1).unflatten(1, x.shape[2:]).movedim(-1, 1)
        return x + out

    def zero_(self) -> None:
        """Zero what makes this module the identity."""
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def _positions(self, frames: int, tokens: Tensor) -> Tensor | float:
        if not self.positions:
            return 0.0
        check_positions(frames, self.positions)
        return interleaved_positions(frames, tokens.shape[-1], tokens.device).to(tokens.dtype)[:, None]


class SelfAttention(nn.Module):
    """Attention over frames. (b, t, n, c) -> the same."""

    def __init__(self, channels: int, heads: int, operations=nn):
        super().__init__()
        self.heads = heads
        self.to_q = operations.Linear(channels, channels, bias=False)
        self.to_k = operations.Linear(channels, channels, bias=False)
        self.to_v = operations.Linear(channels, channels, bias=False)
        self.to_out = operations.Linear(channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.to_out(attend(self.to_q(tokens), self.to_k(tokens), self.to_v(tokens), self.heads))


def over_clip(norm, x: Tensor, frames: int) -> Tensor:
    """A group norm with the statistics of whole clips. x: (b t) c h w with t = frames -> same shape."""
    clips = x.unflatten(0, (-1, frames)).transpose(1, 2)  # b c t h w
    return norm(clips.flatten(3)).unflatten(3, x.shape[2:]).transpose(1, 2).flatten(0, 1)


def check_positions(frames: int, positions: int) -> None:
    if frames > positions:
        raise ValueError(
            f"The video has {frames} frames, but these temporal layers know the positions of {positions}: "
            f"make at most {positions} frames, or use Context Windows of at most {positions}."
        )


def interleaved_positions(frames: int, channels: int, device: torch.device | None = None) -> Tensor:
    """(frames, channels) in float32: sine and cosine of frame / 10000^(2i / channels) at channels 2i and 2i + 1."""
    return sinusoidal_positions(frames, channels, device).unflatten(1, (2, -1)).transpose(1, 2).flatten(1)
