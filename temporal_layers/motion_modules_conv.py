"""TemporalConvStack: the temporal convolutions of ModelScopeT2V (Wang et al. 2023, section 3.2)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .motion_modules import GROUPS, NORMS

DEPTH = 4


class TemporalConvStack(nn.Module):
    """x + four times (group norm, SiLU, convolution over frames with kernel 3 and zero padding).

    norm: whether the group norms take their statistics over one "frame" or over the whole "clip".

    Each convolution runs as one Conv2d with a (3, 1) kernel over the image of frames by pixels, as TemporalConv's.
    """

    def __init__(self, channels: int, norm: str = "clip", operations=nn):
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f'the group norm is over "{norm}"; use "frame" or "clip".')
        self.over_clip = norm == "clip"
        self.norms = nn.ModuleList([operations.GroupNorm(GROUPS, channels) for _ in range(DEPTH)])
        convs = [operations.Conv2d(channels, channels, (3, 1), padding=(1, 0)) for _ in range(DEPTH)]
        self.convs = nn.ModuleList(convs)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """x: (b t) c h w with t = frames -> same shape."""
        v = h = x.flatten(2).unflatten(0, (-1, frames)).transpose(1, 2)  # b c t (h w)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            if self.over_clip:
                h = norm(h)
            else:
                h = norm(h.transpose(1, 2).flatten(0, 1)).unflatten(0, (-1, frames)).transpose(1, 2)
            h = conv(F.silu(h))
        return (v + h).transpose(1, 2).flatten(0, 1).unflatten(2, x.shape[2:])

    def zero_(self) -> None:
        """Zero what makes this module the identity."""
        for parameter in self.convs[-1].parameters():
            nn.init.zeros_(parameter)
