"""TemporalConvStack: the temporal convolutions of ModelScopeT2V (Wang et al. 2023, section 3.2)."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .base import TemporalModule, zero_
from .transformer import GROUPS, Norm, check_groups

DEPTH = 4


class TemporalConvStack(TemporalModule):
    """x + four times (group norm, SiLU, convolution over frames with kernel 3 and zero padding).

    norm: whether the group norms take their statistics over one "frame" or over the whole "clip".

    Each convolution runs as one Conv2d with a (3, 1) kernel over the image of frames by pixels, as TemporalConv's.
    """

    def __init__(self, channels: int, norm: Norm = "clip", operations: Any = nn):
        super().__init__()
        check_groups(channels)
        self.over_clip = norm == "clip"
        self.norms = nn.ModuleList([operations.GroupNorm(GROUPS, channels) for _ in range(DEPTH)])
        convs = [operations.Conv2d(channels, channels, (3, 1), padding=(1, 0)) for _ in range(DEPTH)]
        self.convs = nn.ModuleList(convs)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """Apply the stack to x, (b t) c h w with t = frames; return the same shape."""
        v = h = rearrange(x, "(b t) c h w -> b c t (h w)", t=frames)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            if self.over_clip:
                h = norm(h)
            else:
                h = norm(rearrange(h, "b c t n -> (b t) c n"))
                h = rearrange(h, "(b t) c n -> b c t n", t=frames)
            h = conv(F.silu(h))
        return rearrange(v + h, "b c t (h w) -> (b t) c h w", h=x.shape[2])

    def zero_(self) -> None:
        zero_(self.convs[-1])
