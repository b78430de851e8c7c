"""Anchors: the named modules of an image UNet behind which temporal layers hang.

Works on any UNet of ComfyUI's `UNetModel` kind by walking it; nothing here imports ComfyUI.
Placement follows Emu Video section 3.1: a temporal convolution behind every spatial convolution, temporal
attention behind every spatial attention. "Spatial convolution" is every Conv2d with a kernel larger than 1
(1x1 convolutions mix no space); "spatial attention" is every spatial transformer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn

CONV_IN = "input_blocks.0.0"
LATENT_CHANNELS = 4


@dataclass(frozen=True)
class Anchor:
    """A module of a UNet, by name, and what hangs behind it.

    kind: of the module that hangs there (layers.MODULES): "conv" and "attention" in Emu Video's own layers.
    channels: the width of the anchor's output.
    """

    name: str
    kind: str
    channels: int


def find_anchors(unet: nn.Module, attention: str = "per_transformer") -> tuple[Anchor, ...]:
    """All anchors of `unet`, in the order of its modules.

    attention: "per_transformer" hangs one block behind each spatial transformer, "per_block" one behind each
    of its inner transformer blocks (SDXL: 11 against 70).
    """
    if attention not in ("per_transformer", "per_block"):
        raise ValueError(f'attention is "{attention}"; use "per_transformer" or "per_block".')
    is_attention = is_spatial_transformer if attention == "per_transformer" else is_transformer_block
    anchors = []
    module: Any
    for name, module in unet.named_modules():
        if is_spatial_conv(module):
            anchors.append(Anchor(name, "conv", module.out_channels))
        elif is_attention(module):
            anchors.append(Anchor(name, "attention", attention_width(module)))
    return tuple(anchors)


def is_spatial_conv(module: Any) -> bool:
    return isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1


def is_spatial_transformer(module: nn.Module) -> bool:
    return hasattr(module, "transformer_blocks") and hasattr(module, "proj_in")


def is_transformer_block(module: nn.Module) -> bool:
    return hasattr(module, "attn1") and hasattr(module, "attn2") and hasattr(module, "ff")


def is_residual_block(module: nn.Module) -> bool:
    return hasattr(module, "in_layers") and hasattr(module, "out_layers")


def is_time_embedding(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and all(isinstance(module[i], nn.Linear) for i in (0, -1))


def carries(module: Any, anchor: Anchor) -> bool:
    """Whether `module` of a UNet is one that `anchor` can hang on: of a fitting kind, and as wide."""
    for of_its_kind, width in TARGETS[anchor.kind]:
        if of_its_kind(module):
            return width(module) == anchor.channels
    return False


def attention_width(module: Any) -> int:
    """Channels that come out of a spatial transformer or of one of its blocks."""
    if is_spatial_transformer(module):
        return module.norm.num_channels
    return module.norm1.normalized_shape[0]


CONV = (is_spatial_conv, lambda module: module.out_channels)
TRANSFORMER = (is_spatial_transformer, attention_width)
BLOCK = (is_transformer_block, attention_width)
RESIDUAL = (is_residual_block, lambda module: module.out_layers[-1].out_channels)
TIME = (is_time_embedding, lambda module: module[-1].out_features)
NORM = (lambda module: isinstance(module, nn.GroupNorm), lambda module: module.num_channels)
# Which modules of a UNet carry which kind of anchor, and how wide each is.
TARGETS: dict[str, tuple[tuple[Callable[[Any], bool], Callable[[Any], int]], ...]] = {
    "conv": (CONV,),
    "attention": (TRANSFORMER, BLOCK),
    "transformer": (TRANSFORMER, RESIDUAL),
    "transformer_in": (CONV,),
    "conv_stack": (RESIDUAL,),
    "input": (CONV,),
    "clip_norm": (NORM,),
    "embedding": (TIME,),
}


def conv_in_name(unet: nn.Module) -> str:
    """Name of the first convolution, the one that reads the latent channels."""
    try:
        conv_in = unet.get_submodule(CONV_IN)
    except AttributeError:
        conv_in = None
    if not isinstance(conv_in, nn.Conv2d):
        raise ValueError(
            f"this UNet has no convolution at {CONV_IN}; use a checkpoint of the SD1.5, SD2.1 or SDXL family."
        )
    return CONV_IN


class Shape(NamedTuple):
    """What identifies a base: widths and counts that can be read off any UNet without its weights."""

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


def identify_base(unet: nn.Module) -> str:
    """Which base `unet` is: "sd15", "sd21", "sdxl" or "pocket". Raises ValueError saying what was seen."""
    conv_in: Any = unet.get_submodule(conv_in_name(unet))
    anchors = find_anchors(unet)
    blocks = list(_transformer_blocks(unet))
    shape = Shape(
        model_channels=conv_in.out_channels,
        context_dim=blocks[0].attn2.to_k.in_features if blocks else 0,
        convs=sum(a.kind == "conv" for a in anchors),
        transformers=sum(a.kind == "attention" for a in anchors),
        blocks=len(blocks),
    )
    for base, known in BASES.items():
        if shape == known:
            if conv_in.in_channels != LATENT_CHANNELS:
                raise ValueError(
                    f"this {base} UNet reads {conv_in.in_channels} channels instead of {LATENT_CHANNELS} "
                    "(an inpainting or editing checkpoint); use the plain text-to-image checkpoint."
                )
            return base
    seen = ", ".join(f"{field} {value}" for field, value in shape._asdict().items())
    raise ValueError(f"this UNet is none of {', '.join(BASES)} ({seen}); use a checkpoint of one of these families.")


def _transformer_blocks(unet: nn.Module) -> Iterator[Any]:
    return (module for module in unet.modules() if is_transformer_block(module))
