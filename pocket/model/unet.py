"""The pocket's UNet in plain torch, for training. Its state dict has the keys of ComfyUI's `UNetModel`.

ComfyUI runs the same weights through its own network (host/pocket.py); a test compares both outputs bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 32


@dataclass(frozen=True)
class UNetShape:
    """Widths of the UNet. The first level has `channels` without attention, the second twice as many with attention."""

    latent_channels: int = 4
    channels: int = 64
    context_dim: int = 128
    pooled_dim: int = 256
    head_dim: int = 32


class TextDrivenMaps(nn.Module):
    """Add smooth maps over the frame whose coefficients are a linear function of text and time.

    On 16 x 16 latents convolutions alone cannot locate a pixel, and multiplying text with position through many layers
    is slow to learn. With these maps a word like "left" reaches its side of the frame in one product.
    """

    WAVES = 8  # cosines along each axis
    MAPS = 8

    def __init__(self, channels: int, emb_channels: int, operations: Any = nn, **where):
        super().__init__()
        self.coefficients = operations.Linear(emb_channels, self.MAPS * self.WAVES**2, **where)
        self.proj = operations.Conv2d(self.MAPS, channels, 1, **where)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        across, down = (cosines(size, self.WAVES, x) for size in (x.shape[-1], x.shape[-2]))
        weights = self.coefficients(emb).view(-1, self.MAPS, self.WAVES, self.WAVES)
        return x + self.proj(down.T @ weights.to(x.dtype) @ across)


def cosines(size: int, count: int, like: Tensor) -> Tensor:
    """Return the first `count` cosines of the discrete cosine transform along one axis, [count, size]."""
    places = (torch.arange(size, device=like.device, dtype=torch.float32) + 0.5) / size
    return torch.cos(math.pi * torch.arange(count, device=like.device)[:, None] * places).to(like.dtype)


def timestep_embedding(timesteps: Tensor, width: int) -> Tensor:
    """Return cosines and sines of timesteps [n] at `width` / 2 frequencies, [n, width]."""
    half = width // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=timesteps.device) / half)
    angles = timesteps[:, None].float() * frequencies[None]
    return torch.cat([torch.cos(angles), torch.sin(angles)], -1)


class ResidualBlock(nn.Module):
    """Two convolutions; time and text scale and shift the features between them."""

    def __init__(self, inputs: int, outputs: int, emb_channels: int):
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_channels, 2 * outputs))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, outputs), nn.SiLU(), nn.Identity(), nn.Conv2d(outputs, outputs, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.in_layers(x)
        scale, shift = self.emb_layers(emb).type(h.dtype)[..., None, None].chunk(2, 1)
        h = self.out_layers[0](h)
        h *= 1 + scale
        h += shift
        return self.skip_connection(x) + self.out_layers[1:](h)


class Attention(nn.Module):
    def __init__(self, width: int, context_dim: int, head_dim: int):
        super().__init__()
        self.heads = width // head_dim
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context_dim, width, bias=False)
        self.to_v = nn.Linear(context_dim, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return self.to_out(plain_attention(self.to_q(x), self.to_k(context), self.to_v(context), self.heads))


def plain_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Compute attention without a fused kernel, as its backward pass is several times faster on CPUs. All [n, length,
    width]."""
    batch, length, width = q.shape
    q, k, v = (x.reshape(batch, -1, heads, width // heads).transpose(1, 2) for x in (q, k, v))
    weights = torch.softmax(q * (width // heads) ** -0.5 @ k.transpose(-1, -2), -1)
    return (weights @ v).transpose(1, 2).reshape(batch, length, width)


class GatedGelu(nn.Module):
    def __init__(self, width: int, inner: int):
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.proj(x).chunk(2, -1)
        return x * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.net = nn.Sequential(GatedGelu(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention to the text, and an MLP."""

    def __init__(self, width: int, shape: UNetShape):
        super().__init__()
        self.attn1 = Attention(width, width, shape.head_dim)
        self.ff = FeedForward(width)
        self.attn2 = Attention(width, shape.context_dim, shape.head_dim)
        self.norm2, self.norm1, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        n = self.norm1(x)
        x = self.attn1(n, n) + x
        x = self.attn2(self.norm2(x), context) + x
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    def __init__(self, width: int, shape: UNetShape):
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width, eps=1e-6)
        self.proj_in = nn.Linear(width, width)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width, shape)])
        self.proj_out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        height, width = x.shape[2:]
        h = self.proj_in(self.norm(x).movedim(1, 3).flatten(1, 2).contiguous())
        for block in self.transformer_blocks:
            h = block(h, context)
        return self.proj_out(h).unflatten(1, (height, width)).movedim(3, 1).contiguous() + x


class Downsample(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Block(nn.Sequential):
    """Modules in sequence. Each gets the features and its conditioning: time and text, or the text's words."""

    def forward(self, x: Tensor, emb: Tensor, context: Tensor) -> Tensor:
        for layer in self:
            if isinstance(layer, ResidualBlock | TextDrivenMaps):
                x = layer(x, emb)
            else:
                x = layer(x, context) if isinstance(layer, SpatialTransformer) else layer(x)
        return x


class UNet(nn.Module):
    """Two levels with one residual block each way; the output and all residual branches start at zero."""

    def __init__(self, shape: UNetShape | None = None):
        super().__init__()
        self.shape = shape = shape or UNetShape()
        low, high, emb = shape.channels, 2 * shape.channels, 4 * shape.channels

        def mlp(inputs: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(inputs, emb), nn.SiLU(), nn.Linear(emb, emb))

        def residual(inputs: int, outputs: int) -> ResidualBlock:
            return ResidualBlock(inputs, outputs, emb)

        def transformer() -> SpatialTransformer:
            return SpatialTransformer(high, shape)

        self.time_embed = mlp(low)
        self.label_emb = nn.Sequential(mlp(shape.pooled_dim))
        first = Block(nn.Conv2d(shape.latent_channels, low, 3, padding=1))
        self.input_blocks = nn.ModuleList(
            [
                first,
                Block(residual(low, low)),
                Block(Downsample(low)),
                Block(residual(low, high), transformer()),
            ]
        )
        self.middle_block = Block(residual(high, high), transformer(), residual(high, high))
        self.output_blocks = nn.ModuleList(
            [
                Block(residual(high + high, high), transformer()),
                Block(residual(high + low, high), transformer(), Upsample(high)),
                Block(residual(high + low, low)),
                Block(residual(low + low, low)),
            ]
        )
        self.out = nn.Sequential(
            nn.GroupNorm(GROUPS, low), nn.SiLU(), nn.Conv2d(low, shape.latent_channels, 3, padding=1)
        )
        first.append(TextDrivenMaps(low, emb))  # last, so that the initial weights of a seed do not change
        module: Any
        for name, module in self.named_modules():
            if name == "out.2" or name.endswith(("out_layers.3", "proj_out")):
                nn.init.zeros_(module.weight)
                nn.init.zeros_(module.bias)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, pooled: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Predict v. Also return the features that enter each output block.

        Args:
            x: noisy latents [n, C, h, w], with conditioning channels behind them if temporal layers read them.
            timesteps: [n], 0 to 999.
            context: text features [n, words, context_dim].
            pooled: pooled text [n, pooled_dim].

        Returns:
            v [n, C, h, w] and four tensors [n, 2 channels or fewer, h', w'].
        """
        emb = self.time_embed(timestep_embedding(timesteps, self.shape.channels).to(x.dtype)) + self.label_emb(pooled)
        skips, entering, h = [], [], x
        for block in self.input_blocks:
            h = block(h, emb, context)
            skips.append(h)
        h = self.middle_block(h, emb, context)
        for block in self.output_blocks:
            entering.append(h)
            h = block(torch.cat([h, skips.pop()], 1), emb, context)
        return self.out(h.type(x.dtype)), entering

    @property
    def feature_channels(self) -> tuple[int, ...]:
        """Channels of the features that enter each output block."""
        return tuple(width * self.shape.channels for width in (2, 2, 2, 1))
