"""Public files as their authors document them, with random weights and of any width: {key: tensor}.

Written from the published layouts, not from the package's own tables. No layer is left at zero.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

SD15 = (32, 64, 64, 64)  # four levels, as narrow as the group norms allow
SDXL = (32, 64, 64)
SD21 = (64, 64, 128, 128)


class Random:
    """Weights of a size that keeps activations of the order of one."""

    def __init__(self, seed: int = 0):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int, scale: float = 1.0) -> Tensor:
        fan_in = math.prod(shape[1:])
        return scale * fan_in**-0.5 * torch.randn(shape, generator=self.generator)

    def norm(self, name: str, channels: int) -> dict[str, Tensor]:
        return {
            f"{name}.weight": 1 + 0.2 * torch.randn(channels, generator=self.generator),
            f"{name}.bias": 0.2 * torch.randn(channels, generator=self.generator),
        }

    def linear(self, name: str, *shape: int, bias: bool = True) -> dict[str, Tensor]:
        weights = {f"{name}.weight": self(*shape)}
        return weights | ({f"{name}.bias": 0.2 * torch.randn(shape[0], generator=self.generator)} if bias else {})


def sinusoids(length: int, channels: int) -> Tensor:
    """[1, length, channels], sine on even and cosine on odd channels."""
    return _sinusoids(length, channels).clone()


@cache
def _sinusoids(length: int, channels: int) -> Tensor:
    table = torch.zeros(1, length, channels)
    for position in range(length):
        for i in range(0, channels, 2):
            angle = position / 10000 ** (i / channels)
            table[0, position, i], table[0, position, i + 1] = math.sin(angle), math.cos(angle)
    return table


def motion_module(
    name: str, c: int, positions: int, random: Random, table: str = "pos_encoder.pe"
) -> dict[str, Tensor]:
    """One motion module in AnimateDiff's naming. positions = 0: no table."""
    block = f"{name}.transformer_blocks.0"
    weights = random.norm(f"{name}.norm", c) | random.linear(f"{name}.proj_in", c, c)
    for i in (0, 1):
        attention = f"{block}.attention_blocks.{i}"
        for part in ("to_q", "to_k", "to_v"):
            weights |= random.linear(f"{attention}.{part}", c, c, bias=False)
        weights |= random.linear(f"{attention}.to_out.0", c, c) | random.norm(f"{block}.norms.{i}", c)
        if positions:
            weights[f"{attention}.{table}"] = sinusoids(positions, c)
    weights |= random.linear(f"{block}.ff.net.0.proj", 8 * c, c) | random.linear(f"{block}.ff.net.2", c, 4 * c)
    return weights | random.norm(f"{block}.ff_norm", c) | random.linear(f"{name}.proj_out", c, c)


def slots(widths, middle: bool):
    """(block, index, width) of each motion module: two per level down, three up."""
    for level, width in enumerate(widths):
        yield from ((f"down_blocks.{level}", j, width) for j in range(2))
    if middle:
        yield "mid_block", 0, widths[-1]
    for level, width in enumerate(reversed(widths)):
        yield from ((f"up_blocks.{level}", j, width) for j in range(3))


def animatediff(widths=SD15, middle: bool = False, positions: int = 32, seed: int = 0) -> dict[str, Tensor]:
    random = Random(seed)
    weights: dict[str, Tensor] = {}
    for block, j, width in slots(widths, middle):
        weights |= motion_module(f"{block}.motion_modules.{j}.temporal_transformer", width, positions, random)
    return weights


V1 = {"positions": 24}
V2 = {"middle": True}
V3: dict = {}
SDXL_BETA = {"widths": SDXL}


def hotshotxl(widths=SDXL, seed: int = 0) -> dict[str, Tensor]:
    random = Random(seed)
    weights: dict[str, Tensor] = {}
    for block, j, width in slots(widths, middle=False):
        table = "pos_encoder.positional_encoding"
        weights |= motion_module(f"{block}.temporal_attentions.{j}", width, 24, random, table)
    return weights


def pia(widths=SD15, seed: int = 0) -> dict[str, Tensor]:
    random = Random(seed + 100)
    return animatediff(widths, seed=seed) | random.linear("conv_in", widths[0], 9, 3, 3)


def fancyvideo(widths=SD15, embeddings=("fps", "motion"), seed: int = 0) -> dict[str, Tensor]:
    random = Random(seed + 200)
    weights = animatediff(widths, middle=True, seed=seed) | random.linear("conv_in", widths[0], 9, 3, 3)
    for name in embeddings:
        weights |= random.linear(f"{name}_embedding.linear", 4 * widths[0], widths[0])
    return weights


def transformer(name: str, c: int, inner: int, random: Random) -> dict[str, Tensor]:
    """A temporal transformer in diffusers' naming, without positions."""
    block = f"{name}.transformer_blocks.0"
    weights = random.norm(f"{name}.norm", c) | random.linear(f"{name}.proj_in", inner, c)
    for i in (1, 2):
        for part in ("to_q", "to_k", "to_v"):
            weights |= random.linear(f"{block}.attn{i}.{part}", inner, inner, bias=False)
        weights |= random.linear(f"{block}.attn{i}.to_out.0", inner, inner)
    for i in (1, 2, 3):
        weights |= random.norm(f"{block}.norm{i}", inner)
    weights |= random.linear(f"{block}.ff.net.0.proj", 8 * inner, inner)
    return weights | random.linear(f"{block}.ff.net.2", inner, 4 * inner) | random.linear(f"{name}.proj_out", c, inner)


def conv_stack(name: str, c: int, random: Random) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for i in (1, 2, 3, 4):
        weights |= random.norm(f"{name}.conv{i}.0", c)
        weights |= random.linear(f"{name}.conv{i}.{2 if i == 1 else 3}", c, c, 3, 1, 1)
    return weights


def modelscope(widths=SD21, seed: int = 0) -> dict[str, Tensor]:
    """diffusers' naming."""
    random = Random(seed)
    weights = transformer("transformer_in", widths[0], 512, random)
    down = [(f"down_blocks.{i}", 2, width, i < 3) for i, width in enumerate(widths)]
    up = [(f"up_blocks.{i}", 3, width, i > 0) for i, width in enumerate(reversed(widths))]
    for block, count, width, attends in down + up:
        for j in range(count):
            weights |= conv_stack(f"{block}.temp_convs.{j}", width, random)
            if attends:
                weights |= transformer(f"{block}.temp_attentions.{j}", width, width, random)
    for j in (0, 1):
        weights |= conv_stack(f"mid_block.temp_convs.{j}", widths[-1], random)
    return weights | transformer("mid_block.temp_attentions.0", widths[-1], widths[-1], random)


def modelscope_original(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same in the original naming: blocks counted through, projections of the transformers as Conv1d."""
    renamed = {}
    for key, tensor in weights.items():
        if ("proj_in" in key or "proj_out" in key) and key.endswith("weight"):
            tensor = tensor[..., None]
        part, *rest = key.split(".")
        if part == "transformer_in":
            renamed[".".join(["input_blocks.0.1", *rest])] = tensor
            continue
        if part == "mid_block":
            place = {"temp_convs.0": "0.temopral_conv", "temp_convs.1": "3.temopral_conv", "temp_attentions.0": "2"}
            renamed[".".join(["middle_block", place[".".join(rest[:2])], *rest[2:]])] = tensor
            continue
        level, kind, j = int(rest[0]), rest[1], int(rest[2])
        block = f"input_blocks.{1 + 3 * level + j}" if part == "down_blocks" else f"output_blocks.{3 * level + j}"
        inside = "0.temopral_conv" if kind == "temp_convs" else "2"
        renamed[".".join([block, inside, *rest[3:]])] = tensor
    return renamed


def spatial(width: int = 32) -> dict[str, Tensor]:
    """Some keys of a UNet's own weights in diffusers' naming, as whole checkpoints have them."""
    random = Random(300)
    return (
        random.linear("down_blocks.0.resnets.0.conv1", width, width, 3, 3)
        | random.linear("mid_block.attentions.0.proj_in", width, width)
        | random.linear("time_embedding.linear_1", 4 * width, width)
        | random.linear("conv_out", 4, width, 3, 3)
    )


def motion_lora(widths=SD15, rank: int = 4, middle: bool = False, seed: int = 0) -> dict[str, Tensor]:
    """A motion LoRA in AnimateDiff's naming."""
    random = Random(seed + 400)
    weights = {}
    for block, j, c in slots(widths, middle):
        for i in (0, 1):
            attention = f"{block}.motion_modules.{j}.temporal_transformer.transformer_blocks.0.attention_blocks.{i}"
            for part in ("to_q", "to_k", "to_v", "to_out"):
                weights[f"{attention}.processor.{part}_lora.down.weight"] = random(rank, c)
                weights[f"{attention}.processor.{part}_lora.up.weight"] = random(c, rank)
    return weights


def domain_adapter(widths=SD15, context: int = 24, rank: int = 4, seed: int = 0) -> dict[str, Tensor]:
    """AnimateDiff v3's domain adapter: a LoRA of the image model's attention, in its naming."""
    random = Random(seed + 500)
    down = [(f"down_blocks.{i}.attentions.{j}", widths[i]) for i in range(3) for j in range(2)]
    up = [(f"up_blocks.{i}.attentions.{j}", widths[-1 - i]) for i in (1, 2, 3) for j in range(3)]
    weights = {}
    for name, c in [*down, ("mid_block.attentions.0", widths[-1]), *up]:
        for i in (1, 2):
            for part in ("to_q", "to_k", "to_v", "to_out"):
                lora = f"{name}.transformer_blocks.0.attn{i}.processor.{part}_lora"
                weights[f"{lora}.down.weight"] = random(rank, context if i == 2 and part in ("to_k", "to_v") else c)
                weights[f"{lora}.up.weight"] = random(c, rank)
    return weights
