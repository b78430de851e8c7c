"""The pocket's text encoder and UNet as one trainable function, in the precision that is fast on the processor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .text_encoder import TextEncoder, Vocabulary
from .unet import UNet, UNetShape


class Denoiser(nn.Module):
    """Noisy latents [n, C, h, w], timesteps [n] and encoded text to v [n, C, h, w]."""

    def __init__(self, shape: UNetShape | None = None):
        super().__init__()
        self.text = TextEncoder(len(Vocabulary()))
        self.unet = UNet(shape)

    def encode(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return text features [n, 32, 128] and pooled text [n, 256] of token ids [n, 32]."""
        return self.text(tokens)

    def forward(self, x: Tensor, t: Tensor, context: Tensor, pooled: Tensor) -> Tensor:
        return self.with_features(x, t, context, pooled)[0]

    def with_features(self, x: Tensor, t: Tensor, context: Tensor, pooled: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return v, and the features that enter each output block."""
        with torch.autocast(x.device.type, torch.bfloat16):
            x = x.contiguous(memory_format=torch.channels_last)
            return self.unet(x, t, context, pooled)
