"""A video UNet as the official code of AnimateDiff, PIA, FancyVideo and HotshotXL runs it, one clip at a time.

A plain restatement on weights by their LDM names: clips are [t, c, h, w] throughout, motion modules stand behind every
residual block (and its spatial attention), and the norms of residual blocks and output see a frame or the clip.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from emu_video.tests.temporal_layers.formats.plain import (
    attention,
    group_norm,
    layer_norm,
    linear,
    motion_module,
    value_embedding,
    without_prefix,
)
from torch import Tensor

Weights = dict[str, Tensor]


class PlainUNet:
    """image: weights of the image UNet. motion: of the public file, in AnimateDiff's naming. heads: from channels."""

    def __init__(self, image: Weights, motion: Weights, heads: Callable[[int], int], resnets_over_clip: bool):
        self.image, self.motion = dict(image), motion
        self.heads, self.over_clip = heads, resnets_over_clip
        if "conv_in.weight" in motion:  # the image model's columns and bias, the file's columns for its channels
            own = self.image["input_blocks.0.0.weight"]
            self.image["input_blocks.0.0.weight"] = torch.cat((own, motion["conv_in.weight"][:, 4:]), dim=1)

    def __call__(self, x: Tensor, timestep: float, context: Tensor, y: Tensor | None = None, **values: float) -> Tensor:
        """x: [t, c, h, w]; context: [l, d]; y: [n]; values: what the embeddings are told. -> [t, 4, h, w]"""
        emb = self.time_embedding(timestep)
        for name, value in values.items():
            emb = emb + value_embedding(value, self.motion, f"{name}_embedding.linear")
        if y is not None:
            emb = emb + self.mlp(y, "label_emb.0")
        down = 1 + max(int(key.split(".")[1]) for key in self.image if key.startswith("input_blocks."))
        h = self.conv(x, "input_blocks.0.0")
        skips = [h]
        level = j = 0
        for n in range(1, down):
            if f"input_blocks.{n}.0.op.weight" in self.image:
                h = self.conv(h, f"input_blocks.{n}.0.op", stride=2)
                level, j = level + 1, 0
            else:
                h = self.block(h, f"input_blocks.{n}", emb, context)
                h = self.move(h, f"down_blocks.{level}.motion_modules.{j}")
                j += 1
            skips.append(h)
        h = self.resnet(h, "middle_block.0", emb)
        h = self.move(self.transformer(h, "middle_block.1", context), "mid_block.motion_modules.0")
        h = self.resnet(h, "middle_block.2", emb)
        for n in range(down):
            h = self.block(torch.cat((h, skips.pop()), dim=1), f"output_blocks.{n}", emb, context)
            h = self.move(h, f"up_blocks.{n // 3}.motion_modules.{n % 3}")
            for place in (1, 2):
                if f"output_blocks.{n}.{place}.conv.weight" in self.image:
                    h = self.conv(F.interpolate(h, scale_factor=2), f"output_blocks.{n}.{place}.conv")
        return self.conv(F.silu(group_norm(h, self.image, "out.0", self.over_clip, eps=1e-5)), "out.2")

    def time_embedding(self, timestep: float) -> Tensor:
        half = self.image["time_embed.0.weight"].shape[1] // 2
        angles = [timestep / 10000 ** (i / half) for i in range(half)]
        features = [math.cos(angle) for angle in angles] + [math.sin(angle) for angle in angles]
        return self.mlp(torch.tensor(features), "time_embed")

    def mlp(self, x: Tensor, name: str) -> Tensor:
        return linear(F.silu(linear(x, self.image, f"{name}.0")), self.image, f"{name}.2")

    def conv(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = self.image[f"{name}.weight"]
        return F.conv2d(x, weight, self.image[f"{name}.bias"], stride, padding=weight.shape[-1] // 2)

    def block(self, h: Tensor, name: str, emb: Tensor, context: Tensor) -> Tensor:
        h = self.resnet(h, f"{name}.0", emb)
        attends = f"{name}.1.norm.weight" in self.image
        return self.transformer(h, f"{name}.1", context) if attends else h

    def resnet(self, x: Tensor, name: str, emb: Tensor) -> Tensor:
        h = F.silu(group_norm(x, self.image, f"{name}.in_layers.0", self.over_clip, eps=1e-5))
        h = self.conv(h, f"{name}.in_layers.2")
        h = h + linear(F.silu(emb), self.image, f"{name}.emb_layers.1")[:, None, None]
        h = F.silu(group_norm(h, self.image, f"{name}.out_layers.0", self.over_clip, eps=1e-5))
        h = self.conv(h, f"{name}.out_layers.3")
        if f"{name}.skip_connection.weight" in self.image:
            x = self.conv(x, f"{name}.skip_connection")
        return x + h

    def transformer(self, x: Tensor, name: str, context: Tensor) -> Tensor:
        heads = self.heads(x.shape[1])
        tokens = group_norm(x, self.image, f"{name}.norm", over_clip=False, eps=1e-6).flatten(2).transpose(1, 2)
        tokens = self.project(tokens, f"{name}.proj_in")
        texts = context.expand(len(x), -1, -1)
        depth = 0
        while f"{name}.transformer_blocks.{depth}.norm1.weight" in self.image:
            weights = without_prefix(self.image, f"{name}.transformer_blocks.{depth}.")
            tokens = tokens + attention(layer_norm(tokens, weights, "norm1"), weights, "attn1", heads)
            tokens = tokens + attention(layer_norm(tokens, weights, "norm2"), weights, "attn2", heads, texts)
            values, gates = linear(layer_norm(tokens, weights, "norm3"), weights, "ff.net.0.proj").chunk(2, -1)
            tokens = tokens + linear(values * F.gelu(gates), weights, "ff.net.2")
            depth += 1
        return x + self.project(tokens, f"{name}.proj_out").transpose(1, 2).reshape(x.shape)

    def project(self, tokens: Tensor, name: str) -> Tensor:
        weight = self.image[f"{name}.weight"]
        return F.linear(tokens, weight.flatten(1), self.image[f"{name}.bias"])

    def move(self, h: Tensor, name: str) -> Tensor:
        weights = without_prefix(self.motion, f"{name}.temporal_transformer.")
        return motion_module(h, weights, over_clip=False) if weights else h
