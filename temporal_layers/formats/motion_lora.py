"""Motion LoRAs: low-rank changes of the linear layers of motion modules, with the key names of the public trainers.

These are AnimateDiff (`to_q_lora.down`), MotionDirector (the same for every linear layer, with `processor` in the key),
diffusers and PEFT (`to_q.lora_A`), and kohya (`lora_unet_..._to_q.lora_down` and `.alpha`).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ..backbones.unet import blocks, last_module, levels_of
from ..files import check_values
from ..info import LayersInfo
from ..kinds import new_module
from ..reader import Weights
from ..sentences import short
from .motion_module_family import NAMINGS

PREFIX = re.compile(r"^(base_model\.model\.|diffusion_model\.|unet\.)+")
KOHYA = "lora_unet_"
MATRIX = re.compile(r"^(?P<layer>.+?)[._]lora[._](linear_layer\.)?(?P<part>down|up|A|B)(\.\w+)?\.weight$")
ALPHA = re.compile(r"^(?P<layer>.+?)([._]lora)?[._](lora_|network_)?alpha$")
PARTS = {"A": "down", "B": "up"}
TEMPORAL = re.compile(
    r"motion_modules|temporal_attentions|temporal_transformer|temp_attentions|temp_convs|transformer_in"
)


class LowRank(NamedTuple):
    """Change of a weight [out, in]: scale * up @ down, with scale = alpha / rank, or 1 without alpha.

    up: [out, rank]; down: [rank, in].
    """

    up: Tensor
    down: Tensor
    alpha: float | None


@dataclass(frozen=True)
class MotionLoRA:
    """Contents of a motion LoRA file.

    changes: key of the temporal layers' state dict -> its change. left_out: keys for the image model.
    """

    changes: dict[str, LowRank]
    left_out: list[str] = field(default_factory=list)


def motion_lora(weights: Weights, info: LayersInfo) -> MotionLoRA:
    """Return the changes of a motion LoRA file to temporal layers.

    Raises ValueError for a file without motion weights, for a key or shape that does not fit the layers, and for values
    that are not finite.
    """
    places, shapes = _places(info), _shapes(info)
    found: dict[str, dict[str, Tensor]] = {}
    left_out = []
    for key, tensor in weights.tensors.items():
        match = MATRIX.match(key) or ALPHA.match(key)
        if not match:
            raise ValueError(
                f"{weights.path} has the key {short(key)}, which is not a low-rank matrix of a LoRA; "
                f"choose a motion LoRA file."
            )
        if not TEMPORAL.search(key):
            left_out.append(key)
            continue
        target = places.get(_plain_name(match["layer"]))
        if target not in shapes:
            raise ValueError(
                f"{weights.path}: {key} does not belong to these temporal layers ({info.family}, {info.base}); use the "
                "temporal layers that the motion LoRA was made for."
            )
        part = match.groupdict().get("part", "alpha")
        found.setdefault(target, {})[PARTS.get(part, part)] = tensor
    if not found:
        raise ValueError(
            f"{weights.path} is a LoRA for the image model, not a motion LoRA; load it as an ordinary LoRA."
        )
    changes = {target: _change(weights.path, target, parts, shapes[target]) for target, parts in found.items()}
    return MotionLoRA(changes, left_out)


def _change(path: str, target: str, parts: dict[str, Tensor], shape: torch.Size) -> LowRank:
    if not {"up", "down"} <= parts.keys():
        raise ValueError(f"{path} is missing the up or down matrix of {target}; download the file again.")
    up, down = (_matrix(parts[name]) for name in ("up", "down"))
    if up.ndim != 2 or down.ndim != 2 or up.shape[1] != down.shape[0] or (len(up), down.shape[1]) != shape:
        raise ValueError(
            f"{path}: the matrices of {target} have shapes {list(up.shape)} and {list(down.shape)} instead of "
            f"[{shape[0]}, rank] and [rank, {shape[1]}]; use the temporal layers that the motion LoRA was made for."
        )
    for name in ("up", "down"):
        check_values(path, f"{name} of {target}", parts[name])
    return LowRank(up, down, _alpha(path, target, parts["alpha"]) if "alpha" in parts else None)


def _alpha(path: str, target: str, alpha: Tensor) -> float:
    """Return a number that trainers save in any dtype."""
    if alpha.numel() != 1:
        raise ValueError(
            f"{path}: alpha of {target} has shape {list(alpha.shape)} instead of one number; download the file again."
        )
    if alpha.is_complex() or alpha.dtype == torch.bool or not math.isfinite(alpha.item()):
        raise ValueError(f"{path}: alpha of {target} is {alpha.item()}, not a number; download the file again.")
    return float(alpha.item())


def _matrix(tensor: Tensor) -> Tensor:
    """Drop the last two dimensions of a 1x1 convolution."""
    return tensor.flatten(1) if tensor.ndim == 4 and tensor.shape[2:] == (1, 1) else tensor


def _plain_name(layer: str) -> str:
    """Return the name of a layer without the parts that differ between trainers, with _ instead of dots."""
    if layer.startswith(KOHYA):
        return layer.removeprefix(KOHYA).removesuffix("_0")
    return PREFIX.sub("", layer).replace(".processor", "").removesuffix(".0").replace(".", "_")


def _places(info: LayersInfo) -> dict[str, str]:
    """Return plain name of a layer -> key of the temporal layers' state dict, for all known namings."""
    levels = levels_of(info.base)
    layers = {(ours, theirs) for naming in NAMINGS for ours, theirs in naming.names.items()}
    return {
        _plain_name(naming.slot.format(block=block, j=j) + theirs): f"{last_module(name, level, levels)}.{ours}.weight"
        for block, j, name, level in blocks(levels, middle=True)
        for naming in NAMINGS
        for ours, theirs in layers
    }


def _shapes(info: LayersInfo) -> dict[str, torch.Size]:
    """Return the shapes of the weights that a motion LoRA may change: linear layers of motion modules."""
    options = info.modules.get("transformer", {})
    if not options.get("positions"):
        raise ValueError(
            f"These temporal layers ({info.family}) have no motion modules, so a motion LoRA cannot change them; use "
            "AnimateDiff's temporal layers."
        )
    with torch.device("meta"):
        return {
            f"{anchor.name}.{key}": weight.shape
            for anchor in info.anchors
            if anchor.kind == "transformer"
            for key, weight in new_module(anchor, options).state_dict().items()
            if weight.ndim == 2
        }
