"""Motion LoRAs of AnimateDiff: small differences for the attention weights of motion modules, in two namings."""

from __future__ import annotations

import re

from torch import Tensor

from ..backbones.unet import blocks, last_module
from ..info import LayersInfo
from .weights import Weights

KEY = re.compile(
    r"(?:unet\.)?(?P<block>down_blocks\.\d+|up_blocks\.\d+|mid_block)\.motion_modules\.(?P<j>\d+)\."
    r"(?:temporal_transformer\.)?transformer_blocks\.0\.(?:attention_blocks\.(?P<zero>[01])|attn(?P<one>[12]))\."
    r"(?:processor\.)?(?P<name>to_[qkv]|to_out)(?:\.0)?[._]lora[._](?P<side>down|up|A|B)(?:\.default)?\.weight$"
)
SIDES = {"A": "down", "B": "up"}


def pairs(weights: Weights, info: LayersInfo) -> dict[str, tuple[Tensor, Tensor]]:
    """Key of the temporal layers' state dict -> (up, down), whose product is added to that weight.

    Without a further scale, as in the official code. Raises ValueError for a key that is no part of a motion LoRA, and
    for layers that have no such weight.
    """
    layers = {anchor.name: anchor.channels for anchor in info.anchors if anchor.kind == "transformer"}
    levels = 3 if info.base == "sdxl" else 4
    anchors = {(block, j): last_module(name, level, levels) for block, j, name, level in blocks(levels, middle=True)}
    sides: dict[str, dict[str, Tensor]] = {}
    for key, tensor in weights.tensors.items():
        match = KEY.match(key)
        if not match:
            raise ValueError(f"{weights.path} has the key {key}, which no motion LoRA has; load it with Load LoRA.")
        anchor = anchors.get((match["block"], int(match["j"])), "")
        side = SIDES.get(match["side"], match["side"])
        if anchor not in layers or tensor.shape[1 if side == "down" else 0] != layers[anchor]:
            raise ValueError(
                f"{weights.path}: {key} fits no module of these temporal layers ({info.family}, {info.base}); load the "
                "motion LoRA on the layers that it was made for."
            )
        number = int(match["one"] or int(match["zero"]) + 1)
        sides.setdefault(f"{anchor}.attention{number}.{match['name']}.weight", {})[side] = tensor
    for key, pair in sides.items():
        if len(pair) < 2:
            raise ValueError(f"{weights.path} has but one of the two sides for {key}; fetch it again.")
    return {key: (pair["up"], pair["down"]) for key, pair in sides.items()}
