"""Low-rank training of motion modules: the layers are frozen, and small changes of their attention weights are trained.

The result is written twice: merged into the layers, and as a motion LoRA with AnimateDiff's key names, which this pack
and AnimateDiff-Evolved can load.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..temporal_layers.backbones.unet import blocks, last_module, levels_of
from ..temporal_layers.info import LayersInfo
from ..temporal_layers.layers import TemporalLayers

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out")
ORIGINAL, CHANGE = ".parametrizations.weight.original", ".parametrizations.weight.0."


class LowRank(nn.Module):
    """A weight [out, in] plus up @ down; up starts at zero."""

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator):
        super().__init__()
        out, width = weight.shape
        down = torch.randn(rank, width, generator=generator, device="cpu") / rank
        self.down = nn.Parameter(down.to(weight.device))
        self.up = nn.Parameter(torch.zeros(out, rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


def make_low_rank(layers: TemporalLayers, info: LayersInfo, rank: int, seed: int) -> None:
    """Freeze `layers` and add a trainable change of this rank to the attention weights of their motion modules.

    Raises ValueError for layers without motion modules.
    """
    layers.requires_grad_(False)
    names = [anchor.name for anchor in info.anchors if anchor.kind == "transformer"]
    if not names:
        raise ValueError(
            f"low_rank is for motion modules (AnimateDiff, HotshotXL, ...), these layers ({info.family}) have none: "
            "set low_rank to 0."
        )
    generator = torch.Generator().manual_seed(seed)
    for name in names:
        for attention in ("attention1", "attention2"):
            for projection in PROJECTIONS:
                linear = layers.get_submodule(f"{name}.{attention}.{projection}")
                assert isinstance(linear, nn.Linear)
                parametrize.register_parametrization(linear, "weight", LowRank(linear.weight, rank, generator))


def merged(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of ordinary layers with the low-rank changes merged."""
    plain = {key: weight for key, weight in state_dict.items() if CHANGE not in key}
    for key in [key for key in plain if key.endswith(ORIGINAL)]:
        name = key.removesuffix(ORIGINAL)
        change = state_dict[f"{name}{CHANGE}up"] @ state_dict[f"{name}{CHANGE}down"]
        plain[f"{name}.weight"] = plain.pop(key) + change
    return plain


def motion_lora(state_dict: Mapping[str, Tensor], info: LayersInfo) -> dict[str, Tensor]:
    """Return the changes in low-rank layers under the keys of AnimateDiff's motion LoRAs."""
    tensors = {}
    for anchor, prefix in _prefixes(info):
        for number in (1, 2):
            for projection in PROJECTIONS:
                for side in ("down", "up"):
                    key = f"{anchor}.attention{number}.{projection}{CHANGE}{side}"
                    if key in state_dict:
                        public = f"{prefix}.attention_blocks.{number - 1}.processor.{projection}_lora.{side}.weight"
                        tensors[public] = state_dict[key].detach().cpu().contiguous()
    return tensors


def _prefixes(info: LayersInfo) -> Iterator[tuple[str, str]]:
    """Yield (anchor, AnimateDiff's name of its transformer block)."""
    levels = levels_of(info.base)
    for block, j, name, level in blocks(levels, middle=True):
        yield (
            last_module(name, level, levels),
            f"{block}.motion_modules.{j}.temporal_transformer.transformer_blocks.0",
        )
