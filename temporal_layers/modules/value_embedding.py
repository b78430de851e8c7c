"""ValueEmbeddings: numbers such as frames per second, added to the time embedding."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from .base import TemporalModule, zero_

Values = Annotated[
    dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")], Annotated[float, Field(allow_inf_nan=False)]],
    Field(max_length=16),
]
"""Numbers by name, for example frames per second."""


class ValueEmbeddings(TemporalModule):
    """Add embeddings of numbers such as frames per second to the time embedding.

    Each is SiLU(linear(sinusoid(value))).

    FancyVideo (Feng et al. 2024).

    values: the numbers by name. The attribute `values` holds them; set it before a call. A missing name adds nothing,
    as in the image step.
    """

    def __init__(self, channels: int, values: Values, operations: Any = nn):
        super().__init__()
        self.values = dict(values)
        for name in values:
            if hasattr(self, name):
                raise ValueError(f'a value cannot have the name "{name}"; rename it.')
            self.add_module(name, operations.Linear(channels // 4, channels))

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """Add the embeddings to x, (b t) c; return the same shape."""
        for name, linear in self.named_children():
            if name in self.values:
                x = x + F.silu(linear(sinusoid(self.values[name], x.shape[1] // 4, x.device).to(x.dtype)))
        return x

    def zero_(self) -> None:
        zero_(self)


def sinusoid(value: float, channels: int, device: torch.device | None = None) -> Tensor:
    """Return (1, channels) in float32: cosines of value / 10000^(2i / channels), then sines."""
    half = channels // 2
    angles = value * torch.exp(torch.arange(half, device=device) * (-math.log(10000) / half))
    return torch.cat([angles.cos(), angles.sin()])[None]
