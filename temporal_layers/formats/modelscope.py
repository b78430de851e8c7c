"""ModelScopeT2V and ZeroScope (Wang et al. 2023): temporal convolutions and attention on SD2.1, in two namings.

A stack of temporal convolutions follows every residual block. A temporal transformer without positions follows every
spatial transformer and the first convolution. All their norms average over whole clips. The files contain a whole UNet,
whose image weights were also trained; only the temporal layers are used, with the user's SD2.x checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ..backbones.unet import ATTENTION, CONV_IN, DOWN, UP, Anchor
from ..modules.conv_stack import DEPTH
from ..noise import Discrete
from ..reader import Weights
from .conversion import Conversion, Converted, Options
from .motion_module_family import DIFFUSERS

NAME = "ModelScope"
LEVELS = 4
HEAD_DIM = 64
# Names of norms and convolutions in the file. From the second step on, a dropout layer precedes the convolution.
STACK = {f"norms.{i}": f"conv{i + 1}.0" for i in range(DEPTH)}
STACK |= {f"convs.{i}": f"conv{i + 1}.{3 if i else 2}" for i in range(DEPTH)}


class Place(NamedTuple):
    """Name and kind of a temporal module's anchor, and the module's key prefix in the two namings."""

    anchor: str
    kind: str
    diffusers: str
    original: str


def recognises(weights: Weights) -> bool:
    return is_diffusers(weights) or weights.has(r"input_blocks\.\d+\.0\.temopral_conv\.")


def is_diffusers(weights: Weights) -> bool:
    return weights.has(r"down_blocks\.\d+\.temp_convs\.")


def convert(weights: Weights, options: Options) -> Converted:
    conversion = Conversion(weights)
    diffusers = is_diffusers(weights)
    norm = options.transformer_norm or "clip"
    for place in places():
        slot = place.diffusers if diffusers else place.original
        keys = STACK if place.kind == "conv_stack" else DIFFUSERS
        first = f"{slot}{keys['norms.0' if place.kind == 'conv_stack' else 'norm']}.weight"
        anchor = Anchor(place.anchor, place.kind, conversion.width(first))
        conversion.add(anchor, slot, keys, **options_of(place.kind, norm))
    return conversion.result(family=NAME, base="sd21", frames=16, fps=8.0, noise=Discrete())


def options_of(kind: str, norm: str = "clip") -> dict[str, Any]:
    """Return the options of the modules of that kind."""
    attention = {} if kind == "conv_stack" else {"head_dim": HEAD_DIM}
    return {"norm": norm} | attention | ({"heads": 8} if kind == "transformer_in" else {})


def places() -> Iterator[Place]:
    yield Place(CONV_IN, "transformer_in", "transformer_in.", "input_blocks.0.1.")
    for level in range(LEVELS):
        for j in range(DOWN):
            yield from _places("down_blocks", level, j, f"input_blocks.{(DOWN + 1) * level + j + 1}", level)
    yield _stack("middle_block.0", "mid_block", 0, "middle_block.0")
    yield Place("middle_block.1", "transformer", "mid_block.temp_attentions.0.", "middle_block.2.")
    yield _stack("middle_block.2", "mid_block", 1, "middle_block.3")
    for i in range(LEVELS):
        for j in range(UP):
            yield from _places("up_blocks", i, j, f"output_blocks.{UP * i + j}", LEVELS - 1 - i)


def _places(part: str, i: int, j: int, block: str, level: int) -> Iterator[Place]:
    yield _stack(f"{block}.0", f"{part}.{i}", j, f"{block}.0")
    if ATTENTION[LEVELS][level]:
        yield Place(f"{block}.1", "transformer", f"{part}.{i}.temp_attentions.{j}.", f"{block}.2.")


def _stack(anchor: str, diffusers: str, j: int, original: str) -> Place:
    return Place(anchor, "conv_stack", f"{diffusers}.temp_convs.{j}.", f"{original}.temopral_conv.")
