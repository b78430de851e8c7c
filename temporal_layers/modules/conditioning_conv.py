"""ConditioningConv: input of the conditioning channels to the image model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from .base import Strength, TemporalModule, ToFrames


class NoModule(TemporalModule):
    """The identity, for an anchor that only carries the conditioning convolution."""

    def __init__(self, channels: int, operations: Any = nn):
        super().__init__()

    def wrap(
        self, forward: Callable[..., Any], *args: Any, frames: int, strength: Strength, to_frames: ToFrames, **kwargs
    ):
        return forward(*args, **kwargs)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        return x

    def zero_(self) -> None:
        pass


class ConditioningConv:
    """Adds a convolution of the conditioning channels to the output of the anchor that reads the latents.

    Emu Video section 3.1: the image model's own weights read only the latent channels, so they are unchanged.
    """

    def __init__(self, conv: nn.Module, latent_channels: int, conditioning_channels: int):
        self.conv = conv
        self.latent_channels = latent_channels
        self.conditioning_channels = conditioning_channels

    def wrap(
        self, forward: Callable[..., Any], x: Tensor, *, frames: int, strength: Strength, to_frames: ToFrames
    ) -> Tensor:
        """Call `forward` on the latent channels of x and add the convolution of its conditioning channels.

        x: (b t) C h w, or (b t) (C + conditioning channels) h w. With 1 frame the conditioning channels are ignored.

        Raises ValueError for another number of channels.
        """
        surplus = x.shape[1] - self.latent_channels
        if surplus not in (0, self.conditioning_channels):
            both = self.latent_channels + self.conditioning_channels
            raise ValueError(
                f"The model got {x.shape[1]} channels instead of {self.latent_channels} (latents) or {both} (latents, "
                "known frames, mask); use conditionings that were made for these temporal layers."
            )
        out = forward(x[:, : self.latent_channels] if surplus else x)
        if surplus == 0 or frames == 1:
            return out
        return out + self.conv(x[:, self.latent_channels :])
