"""The UNet of Stable Diffusion as ComfyUI builds it (`UNetModel`): SD1.5, SD2.x, SDXL and the pocket model.

Nothing here imports ComfyUI: modules are recognised by their attributes, which quantised checkpoints have as well.

Placement follows Emu Video section 3.1: a temporal convolution behind every spatial convolution, temporal attention
behind every spatial attention. "Spatial convolution" is every Conv2d with a kernel larger than 1 (1x1 convolutions mix
no space); "spatial attention" is every spatial transformer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from .base import Anchor, Part

CONV_IN = "input_blocks.0.0"
TIME_EMBEDDING = "time_embed"
LATENT_CHANNELS = 4


class Shape(NamedTuple):
    """Widths and counts that identify a base. They can be read from any UNet without its weights."""

    model_channels: int
    context_dim: int
    convs: int
    transformers: int
    blocks: int


BASES = {
    "sd15": Shape(model_channels=320, context_dim=768, convs=52, transformers=16, blocks=16),
    "sd21": Shape(model_channels=320, context_dim=1024, convs=52, transformers=16, blocks=16),
    "sdxl": Shape(model_channels=320, context_dim=2048, convs=40, transformers=11, blocks=70),
    "pocket": Shape(model_channels=64, context_dim=128, convs=20, transformers=4, blocks=4),
}
BASES_16 = {"pocket2": Shape(model_channels=64, context_dim=128, convs=20, transformers=4, blocks=4)}


class UNet:
    """The Backbone protocol for UNets with 4 latent channels."""

    latent_channels = LATENT_CHANNELS
    input_anchor = CONV_IN
    shapes = BASES

    @property
    def bases(self) -> tuple[str, ...]:
        return tuple(self.shapes)

    def recognises(self, network: nn.Module) -> bool:
        return is_conv(dict(self.modules(network)).get(CONV_IN))

    def identify(self, network: nn.Module) -> str:
        modules = dict(self.modules(network))
        conv_in: Any = modules[CONV_IN]
        blocks: list[Any] = [module for module in modules.values() if is_transformer_block(module)]
        shape = Shape(
            model_channels=conv_in.out_channels,
            context_dim=blocks[0].attn2.to_k.in_features if blocks else 0,
            convs=sum(map(is_spatial_conv, modules.values())),
            transformers=sum(map(is_spatial_transformer, modules.values())),
            blocks=len(blocks),
        )
        base = next((base for base, known in self.shapes.items() if shape == known), None)
        if base is None:
            seen = ", ".join(f"{field} {value}" for field, value in shape._asdict().items())
            raise ValueError(
                f"This UNet is none of {', '.join(self.shapes)} ({seen}); use a checkpoint of one of these families."
            )
        if conv_in.in_channels != self.latent_channels:
            raise ValueError(
                f"This {base} UNet reads {conv_in.in_channels} channels instead of {self.latent_channels} (an "
                "inpainting or editing checkpoint); use the plain text-to-image checkpoint."
            )
        return base

    def modules(self, network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        for name, child in network.named_children():
            if name in ("input_blocks", "output_blocks"):
                for index, block in child.named_children():
                    yield from _block_modules(f"{name}.{index}", block)
            elif name == "middle_block":
                yield from _block_modules(name, child)
            else:
                yield from child.named_modules(prefix=name)

    def anchors(self, network: nn.Module, placement: str) -> tuple[Anchor, ...]:
        is_attention = is_spatial_transformer if placement == "per_transformer" else is_transformer_block
        anchors = []
        module: Any
        for name, module in self.modules(network):
            if is_spatial_conv(module):
                anchors.append(Anchor(name, "conv", module.out_channels))
            elif is_attention(module):
                anchors.append(Anchor(name, "attention", attention_width(module)))
        return tuple(anchors)

    def part(self, module: Any) -> Part | None:
        for sort, recognises, width in PARTS:
            if recognises(module):
                return Part(sort, width(module))
        return None

    def to_frames(self, out: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Reshape tokens (b t) (h w) c of a transformer block to (b t) c (h w) 1. Maps and embeddings are unchanged."""
        if out.ndim != 3:
            return out, lambda changed: changed
        return out.transpose(1, 2).unsqueeze(-1), lambda changed: changed.squeeze(-1).transpose(1, 2)

    def conditioning_conv(self, channels: int, width: int, operations: Any) -> nn.Module:
        return operations.Conv2d(channels, width, 3, padding=1, bias=False)


class UNet16(UNet):
    """The Backbone protocol for UNets with 16 latent channels."""

    latent_channels = 16
    shapes = BASES_16

    def recognises(self, network: nn.Module) -> bool:
        conv_in: Any = dict(self.modules(network)).get(CONV_IN)
        return is_conv(conv_in) and conv_in.in_channels == self.latent_channels


UNET, UNET_16 = UNet(), UNet16()


def _block_modules(name: str, block: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield (name, module) of a block. Modules that other packs inserted are skipped and not counted in the names."""
    own = [child for child in block.children() if _is_part_of_block(child)]
    for index, child in enumerate(own):
        yield from child.named_modules(prefix=f"{name}.{index}")


def _is_part_of_block(module: nn.Module) -> bool:
    is_resampler = hasattr(module, "op") or hasattr(module, "conv")
    is_activation = next(module.children(), None) is None
    return is_resampler or is_activation or is_residual_block(module) or is_spatial_transformer(module)


def is_conv(module: Any) -> bool:
    return hasattr(module, "out_channels") and len(getattr(module, "kernel_size", ())) == 2


def is_spatial_conv(module: Any) -> bool:
    return is_conv(module) and max(module.kernel_size) > 1


def is_spatial_transformer(module: nn.Module) -> bool:
    return hasattr(module, "transformer_blocks") and hasattr(module, "proj_in")


def is_transformer_block(module: nn.Module) -> bool:
    return hasattr(module, "attn1") and hasattr(module, "attn2") and hasattr(module, "ff")


def is_residual_block(module: nn.Module) -> bool:
    return hasattr(module, "in_layers") and hasattr(module, "out_layers")


def is_time_embedding(module: Any) -> bool:
    return isinstance(module, nn.Sequential) and len(module) > 1 and is_linear(module[0]) and is_linear(module[-1])


def is_linear(module: Any) -> bool:
    """Return whether `module` is a linear layer, of torch or of a quantised checkpoint."""
    return hasattr(module, "in_features") and hasattr(module, "out_features")


def is_group_norm(module: Any) -> bool:
    return hasattr(module, "num_groups") and hasattr(module, "num_channels")


def attention_width(module: Any) -> int:
    """Return the output channels of a spatial transformer or of one of its blocks."""
    if is_spatial_transformer(module):
        return module.norm.num_channels
    return module.norm1.normalized_shape[0]


PARTS: tuple[tuple[str, Callable[[Any], bool], Callable[[Any], int]], ...] = (
    ("spatial_conv", is_spatial_conv, lambda module: module.out_channels),
    ("spatial_transformer", is_spatial_transformer, attention_width),
    ("transformer_block", is_transformer_block, attention_width),
    ("residual_block", is_residual_block, lambda module: module.out_layers[-1].out_channels),
    ("time_embedding", is_time_embedding, lambda module: module[-1].out_features),
    ("group_norm", is_group_norm, lambda module: module.num_channels),
)
"""(sort, test whether a module is of this sort, function that returns its output width)."""


# The functions below map block indices of diffusers (down, mid, up) to ComfyUI's names. SD1.5, SD2.x and SDXL have two
# residual blocks per level on the way down and three on the way up.
DOWN, UP = 2, 3
BASE_OF_LEVELS = {4: "sd15", 3: "sdxl"}
ATTENTION = {4: (True, True, True, False), 3: (False, True, True)}
"""Levels of a UNet -> whether each, from the top, has spatial attention."""


def levels_of(base: str) -> int:
    """Return the number of levels of the UNet of SD1.5, SD2.x ("sd15", "sd21") or SDXL ("sdxl")."""
    return 3 if base == "sdxl" else 4


def blocks(levels: int, middle: bool) -> Iterator[tuple[str, int, str, int]]:
    """Yield (block of diffusers, index in it, ComfyUI's block, level) of each block that a motion module follows."""
    for level in range(levels):
        for j in range(DOWN):
            yield f"down_blocks.{level}", j, f"input_blocks.{(DOWN + 1) * level + j + 1}", level
    if middle:
        yield "mid_block", 0, "middle_block", levels - 1
    for i in range(levels):
        for j in range(UP):
            yield f"up_blocks.{i}", j, f"output_blocks.{UP * i + j}", levels - 1 - i


def last_module(block: str, level: int, levels: int) -> str:
    """Return ComfyUI's name of a block's spatial transformer, or of its residual block if it has no transformer."""
    return f"{block}.1" if block == "middle_block" or ATTENTION[levels][level] else f"{block}.0"


def resnet_norms(widths: Sequence[int]) -> Iterator[tuple[str, int]]:
    """Yield (ComfyUI's name, channels) of the group norms of all residual blocks and of the output.

    widths: channels of the levels, from the top.
    """
    skips, width = [widths[0]], widths[0]
    for level, wide in enumerate(widths):
        for j in range(DOWN):
            yield from _block_norms(f"input_blocks.{(DOWN + 1) * level + j + 1}.0", width, wide)
            width = wide
            skips.append(width)
        if level < len(widths) - 1:
            skips.append(width)
    for j in (0, 2):
        yield from _block_norms(f"middle_block.{j}", width, width)
    for i, wide in enumerate(reversed(widths)):
        for j in range(UP):
            yield from _block_norms(f"output_blocks.{UP * i + j}.0", width + skips.pop(), wide)
            width = wide
    yield "out.0", width


def _block_norms(block: str, width: int, wide: int) -> Iterator[tuple[str, int]]:
    yield f"{block}.in_layers.0", width
    yield f"{block}.out_layers.0", wide
