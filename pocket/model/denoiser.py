"""The pocket's text encoder and UNet as one trainable function, at the precision that this processor is fast at."""

import torch
from torch import Tensor, nn

from ...host import cpu  # noqa: F401  (before anything of ComfyUI looks for a GPU)
from ...host.pocket import UNET_CONFIG, PocketUNet
from .text_encoder import TextEncoder, Vocabulary


class _Operations:
    """Plain torch layers, initialised by torch, where ComfyUI's own leave memory unset."""

    Linear, Conv2d, GroupNorm, LayerNorm = nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm

    @staticmethod
    def conv_nd(dims: int, *args, **options) -> nn.Conv2d:
        return nn.Conv2d(*args, **options)


def _attention(_, q: Tensor, k: Tensor, v: Tensor, heads: int, **__) -> Tensor:
    """Plain attention: on CPUs its backward pass is several times faster than the fused one's."""
    batch, length, width = q.shape
    q, k, v = (x.reshape(batch, -1, heads, width // heads).transpose(1, 2) for x in (q, k, v))
    weights = torch.softmax(q * (width // heads) ** -0.5 @ k.transpose(-1, -2), -1)
    return (weights @ v).transpose(1, 2).reshape(batch, length, width)


def new_unet() -> PocketUNet:
    """A UNet whose output and residual branches start at zero."""
    unet = PocketUNet(**UNET_CONFIG, operations=_Operations)
    for name, module in unet.named_modules():
        if name == "out.2" or name.endswith(("out_layers.3", "proj_out")):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return unet.to(memory_format=torch.channels_last)


class Denoiser(nn.Module):
    """(noisy latents [n, 4 or more, 16, 16], timesteps [n], tokens [n, 32]) -> v [n, 4, 16, 16]."""

    def __init__(self):
        super().__init__()
        self.text = TextEncoder(len(Vocabulary()))
        self.unet = new_unet()

    def encode(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return self.text(tokens)

    def forward(self, x: Tensor, t: Tensor, context: Tensor, pooled: Tensor) -> Tensor:
        return self.with_means(x, t, context, pooled)[0]

    def with_means(self, x: Tensor, t: Tensor, context: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """v, and the mean over the frame [n, 448] of what enters each output block of the UNet."""
        means: list[Tensor] = []

        def listen(h: Tensor, skip: Tensor, _) -> tuple[Tensor, Tensor]:
            means.append(h.float().mean((2, 3)))
            return h, skip

        with torch.autocast("cpu", torch.bfloat16):
            x = x.contiguous(memory_format=torch.channels_last)
            options = {"optimized_attention_override": _attention, "patches": {"output_block_patch": [listen]}}
            v = self.unet(x, t, context=context, y=pooled, transformer_options=options)
        return v, torch.cat(means, 1)
