"""Backbones: the kinds of image models that temporal layers hang on. The facts of each are in one file."""

from __future__ import annotations

from torch import nn

from .base import PLACEMENTS, Anchor, Backbone
from .unet import UNET, UNET_16

_BACKBONES: list[Backbone] = [UNET, UNET_16]


def register(backbone: Backbone) -> None:
    """Add a kind of image model."""
    _BACKBONES.append(backbone)


def bases() -> tuple[str, ...]:
    """Names of all image models that temporal layers are made for."""
    return tuple(base for backbone in _BACKBONES for base in backbone.bases)


def backbone_of(base: str) -> Backbone:
    """Return the backbone of one of `bases()`."""
    return next(backbone for backbone in _BACKBONES if base in backbone.bases)


def identify_base(network: nn.Module) -> str:
    """Return which base `network` is. Raises ValueError, with what was found, for one that no backbone knows."""
    return _backbone_for(network).identify(network)


def find_anchors(network: nn.Module, placement: str = "per_transformer") -> tuple[Anchor, ...]:
    """Return the anchors of Emu Video's own layers, in the order of the modules of `network`.

    placement: "per_transformer" hangs one attention block behind each spatial transformer, "per_block" one behind each
    of its inner transformer blocks (SDXL: 11 against 70).
    """
    if placement not in PLACEMENTS:
        raise ValueError(f'The placement is "{placement}"; use {" or ".join(PLACEMENTS)}.')
    return _backbone_for(network).anchors(network, placement)


def _backbone_for(network: nn.Module) -> Backbone:
    for backbone in reversed(_BACKBONES):  # later ones are more special
        if backbone.recognises(network):
            return backbone
    raise ValueError(
        f"This model ({type(network).__name__}) is of another architecture than {', '.join(bases())}; use a checkpoint "
        "of one of these families."
    )
