"""What hangs on a UNet for public temporal layers and mixes no frames itself: inputs, and norms over whole clips."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .motion_modules import over_clip


class Input(nn.Module):
    """Nothing behind the first convolution: the anchor is there for the extra convolution alone."""

    def __init__(self, channels: int, operations=nn):
        super().__init__()

    def forward(self, x: Tensor, frames: int) -> Tensor:
        return x

    def zero_(self) -> None:
        pass


class ClipNorm(nn.Module):
    """Makes a group norm of the UNet take its statistics over whole clips.

    AnimateDiff v1, PIA and HotshotXL were trained with norms of (c, t, h, w) in the residual blocks.
    """

    def __init__(self, channels: int, operations=nn):
        super().__init__()

    def around(self, norm, x: Tensor, frames: int) -> Tensor:
        """norm: the group norm's own forward; x: (b t) c h w with t = frames -> same shape."""
        return over_clip(norm, x, frames)

    def zero_(self) -> None:
        pass


class ValueEmbeddings(nn.Module):
    """Adds what numbers such as frames per second tell to the time embedding: SiLU(linear(sinusoid(value))) for each.

    FancyVideo (Feng et al. 2024).

    values: the numbers by name, which the attribute of that name holds; set it before a call. A name that the
    attribute lacks adds nothing, as in the image step.
    """

    def __init__(self, channels: int, values: Mapping[str, float], operations=nn):
        super().__init__()
        self.values = dict(values)
        for name in values:
            self.add_module(name, operations.Linear(channels // 4, channels))

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """x: (b t) c -> same shape."""
        for name, linear in self.named_children():
            if name in self.values:
                x = x + F.silu(linear(sinusoid(self.values[name], x.shape[1] // 4, x.device).to(x.dtype)))
        return x

    def zero_(self) -> None:
        """Zero what makes this module the identity."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)


def sinusoid(value: float, channels: int, device: torch.device | None = None) -> Tensor:
    """(1, channels) in float32: cosines of value / 10000^(2i / channels), then sines, as of a diffusion timestep."""
    half = channels // 2
    angles = value * torch.exp(torch.arange(half, device=device) * (-math.log(10000) / half))
    return torch.cat([angles.cos(), angles.sin()])[None]
