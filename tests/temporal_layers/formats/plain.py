"""The published equations of the public modules, one frame and one clip at a time. Nothing of the package is used."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from emu_video.tests.temporal_layers.formats.public import sinusoids
from torch import Tensor


def group_norm(x: Tensor, weights: dict[str, Tensor], name: str, over_clip: bool, eps: float) -> Tensor:
    """x: [t, c, h, w] of one clip."""
    gamma, beta = weights[f"{name}.weight"], weights[f"{name}.bias"]
    if over_clip:
        return F.group_norm(x.transpose(0, 1)[None], 32, gamma, beta, eps)[0].transpose(0, 1)
    return torch.cat([F.group_norm(frame[None], 32, gamma, beta, eps) for frame in x])


def attention(x: Tensor, weights: dict[str, Tensor], name: str, heads: int, context: Tensor | None = None) -> Tensor:
    """x: [batch, tokens, c]; context: the tokens that are attended to, or x's own."""
    context = x if context is None else context
    q, k, v = (
        (tokens @ weights[f"{name}.{part}.weight"].T).unflatten(-1, (heads, -1)).transpose(1, 2)
        for part, tokens in (("to_q", x), ("to_k", context), ("to_v", context))
    )
    scores = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
    return linear((scores @ v).transpose(1, 2).flatten(2), weights, f"{name}.to_out.0")


def linear(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def layer_norm(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])


def motion_module(
    x: Tensor, weights: dict[str, Tensor], over_clip: bool, positions: bool = True, heads: int = 8
) -> Tensor:
    """AnimateDiff's motion module; `weights` in its naming without the module's prefix. x: [t, c, h, w], one clip."""
    frames, channels, height, width = x.shape
    tokens = group_norm(x, weights, "norm", over_clip, eps=1e-6).permute(2, 3, 0, 1).reshape(-1, frames, channels)
    tokens = linear(tokens, weights, "proj_in")
    table = sinusoids(frames, tokens.shape[-1]) if positions else 0.0
    block = "transformer_blocks.0"
    for i in (0, 1):
        normed = layer_norm(tokens, weights, f"{block}.norms.{i}") + table
        tokens = tokens + attention(normed, weights, f"{block}.attention_blocks.{i}", heads)
    value, gate = linear(layer_norm(tokens, weights, f"{block}.ff_norm"), weights, f"{block}.ff.net.0.proj").chunk(
        2, -1
    )
    tokens = tokens + linear(value * F.gelu(gate), weights, f"{block}.ff.net.2")
    out = linear(tokens, weights, "proj_out").reshape(height, width, frames, channels)
    return x + out.permute(2, 3, 0, 1)


def value_embedding(value: float, weights: dict[str, Tensor], name: str) -> Tensor:
    """FancyVideo's embedding of a number: SiLU(linear(cosines, sines))."""
    matrix, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    half = matrix.shape[1] // 2
    angles = [value / 10000 ** (i / half) for i in range(half)]
    features = torch.tensor([math.cos(a) for a in angles] + [math.sin(a) for a in angles])
    return F.silu(F.linear(features, matrix, bias))


def without_prefix(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in weights.items() if key.startswith(prefix)}
