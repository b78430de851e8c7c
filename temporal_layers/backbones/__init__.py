"""Backbones: the kinds of image models that temporal layers can be attached to. Each kind is described in one file."""

from __future__ import annotations

from torch import nn

from .base import PLACEMENTS, Anchor, Backbone
from .unet import UNET, UNET_16

BACKBONES: tuple[Backbone, ...] = (UNET, UNET_16)
"""The known kinds. The last one that recognises a network describes it."""


def bases() -> tuple[str, ...]:
    """Names of all image models that temporal layers are made for."""
    return tuple(base for backbone in BACKBONES for base in backbone.bases)


def backbone_of(base: str) -> Backbone:
    """Return the backbone of one of `bases()`."""
    return next(backbone for backbone in BACKBONES if base in backbone.bases)


def identify_base(network: nn.Module) -> str:
    """Return which base `network` is. Raises ValueError, with the shape found, if no backbone recognises it."""
    return _backbone_for(network).identify(network)


def find_anchors(network: nn.Module, placement: str = "per_transformer") -> tuple[Anchor, ...]:
    """Return the anchors of Emu Video's own layers, in the order of the modules of `network`.

    placement: "per_transformer" puts one attention block behind each spatial transformer, "per_block" one behind each
    of its inner transformer blocks (SDXL: 11 or 70 blocks).
    """
    if placement not in PLACEMENTS:
        raise ValueError(f'The placement is "{placement}"; use {" or ".join(PLACEMENTS)}.')
    return _backbone_for(network).anchors(network, placement)


def _backbone_for(network: nn.Module) -> Backbone:
    for backbone in reversed(BACKBONES):
        if backbone.recognises(network):
            return backbone
    raise ValueError(
        f"This model ({type(network).__name__}) is not supported; use a checkpoint of {', '.join(bases())}."
    )
