"""TemporalConv: Emu Video's convolution over frames (section 3.1)."""

from __future__ import annotations

from typing import Any

from einops import rearrange
from torch import Tensor, nn

from .base import TemporalModule, zero_


class TemporalConv(TemporalModule):
    """x + convolution over frames, kernel 3, zero padding, no activation.

    Emu Video section 3.1 (1D temporal convolution behind every spatial one, identity at the start);
    the kernel size is Make-A-Video's.

    Runs as one Conv2d with a (3, 1) kernel over the image whose height is the frames and whose width is the
    pixels: a view of channels_last activations; contiguous ones are gathered by channel inside the convolution.

    Memory traffic, in reads or writes of the whole activation: 5 (convolution 2, sum 3); contiguous 7.
    """

    def __init__(self, channels: int, operations: Any = nn):
        super().__init__()
        self.conv = operations.Conv2d(channels, channels, (3, 1), padding=(1, 0))

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """Convolve x over frames, (b t) c h w with t = frames; return the same shape."""
        v = rearrange(x, "(b t) c h w -> b c t (h w)", t=frames)  # a view in both layouts
        v = v + self.conv(v)
        return rearrange(v, "b c t (h w) -> (b t) c h w", h=x.shape[2])

    def zero_(self) -> None:
        zero_(self.conv)
