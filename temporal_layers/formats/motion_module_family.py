"""Motion modules of AnimateDiff, AnimateLCM, PIA, FancyVideo and HotshotXL: one module with different key names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..backbones.unet import ATTENTION, BASE_OF_LEVELS, LATENT_CHANNELS, Anchor, blocks, last_module, resnet_norms
from ..files import check_dtype
from ..modules.frames import interleaved_positions
from ..noise import Discrete
from ..reader import Weights
from .conversion import Conversion, Converted, Options

LINEAR = Discrete(schedule="linear")
AS_ANIMATEDIFF = {"frames": 16, "fps": 8.0, "noise": LINEAR}

# Submodules of TemporalTransformer -> their names in the file.
OUTER = {"norm": "norm", "proj_in": "proj_in", "proj_out": "proj_out"}
MLP = {"mlp_in": "transformer_blocks.0.ff.net.0.proj", "mlp_out": "transformer_blocks.0.ff.net.2"}
ANIMATEDIFF = OUTER | MLP | {
    "norm1": "transformer_blocks.0.norms.0",
    "norm2": "transformer_blocks.0.norms.1",
    "norm3": "transformer_blocks.0.ff_norm",
}  # fmt: skip
DIFFUSERS = OUTER | MLP | {f"norm{i}": f"transformer_blocks.0.norm{i}" for i in (1, 2, 3)}
for _i in (1, 2):
    for _ours, _theirs in (("to_q", "to_q"), ("to_k", "to_k"), ("to_v", "to_v"), ("to_out", "to_out.0")):
        ANIMATEDIFF[f"attention{_i}.{_ours}"] = f"transformer_blocks.0.attention_blocks.{_i - 1}.{_theirs}"
        DIFFUSERS[f"attention{_i}.{_ours}"] = f"transformer_blocks.0.attn{_i}.{_theirs}"


@dataclass(frozen=True)
class Naming:
    """Key names of a family's motion modules.

    slot: key prefix of the j-th module of a block, with {block} and {j}. names: submodule -> its name in the file.
    positions: regular expression for the keys of position tables.
    """

    slot: str
    names: Mapping[str, str]
    positions: str


OFFICIAL = Naming("{block}.motion_modules.{j}.temporal_transformer.", ANIMATEDIFF, r".*\.pos_encoder\.pe$")
HOTSHOT = Naming("{block}.temporal_attentions.{j}.", ANIMATEDIFF, r".*\.pos_encoder\.positional_encoding$")
ADAPTER = Naming("{block}.motion_modules.{j}.", DIFFUSERS, r".*\.pos_embed\.pe$")

NAMINGS = (OFFICIAL, HOTSHOT, ADAPTER)


class MotionModules(Conversion):
    """Conversion of a file with motion modules. A family may take further keys.

    heads: number of attention heads, which cannot be read from the weights.
    """

    def __init__(self, weights: Weights, naming: Naming, options: Options, heads: int = 8):
        super().__init__(weights)
        self.naming, self.options, self.heads = naming, options, heads
        self.levels = self._levels()
        self.base = BASE_OF_LEVELS[self.levels]
        self.middle = weights.has(re.escape(naming.slot.format(block="mid_block", j=0)))
        self.positions = self._positions()

    def take_modules(self, positions: int, resnet_norm: str) -> None:
        """Read all motion modules.

        positions: length of the position table for files without one. resnet_norm: the family's value, see `Options`.
        """
        widths: dict[int, int] = {}
        for block, j, name, level in blocks(self.levels, self.middle):
            slot = self.naming.slot.format(block=block, j=j)
            widths.setdefault(level, self._width(slot))
            self.add(
                Anchor(last_module(name, level, self.levels), "transformer", widths[level]),
                slot,
                self.naming.names,
                heads=self.heads,
                positions=self.positions or positions,
                norm=self.options.transformer_norm or "frame",
            )
        if (self.options.resnet_norm or resnet_norm) == "clip":
            for name, channels in resnet_norms([widths[level] for level in range(self.levels)]):
                self.anchors.append(Anchor(name, "clip_norm", channels))

    def result(self, **facts: Any) -> Converted:
        """Return the converted layers. Raises ValueError if a key of the file is unused.

        facts: the family, and entries of LayersInfo in which it differs from AnimateDiff.
        """
        conv_in = self.weights.tensors.get("conv_in.weight")
        if not self.conditioning_channels and conv_in is not None and conv_in.shape[1:2] != (LATENT_CHANNELS,):
            raise ValueError(
                f"{self.weights.path}: conv_in.weight has shape {list(conv_in.shape)}, but {facts['family']} files "
                f"read only the {LATENT_CHANNELS} channels of latents; choose another file."
            )
        return super().result(base=self.base, **AS_ANIMATEDIFF | facts)

    def _width(self, slot: str) -> int:
        return self.width(f"{slot}norm.weight")

    def _levels(self) -> int:
        matches = (re.match(r"(?:down|up)_blocks\.([0-9]{1,3})\.", key) for key in self.weights.tensors)
        levels = 1 + max((int(match[1]) for match in matches if match), default=0)
        if levels not in ATTENTION:
            raise ValueError(
                f"{self.weights.path} has motion modules in {levels} levels, but SD1.5 has 4 levels and SDXL 3; choose "
                "temporal layers for SD1.5 or SDXL."
            )
        return levels

    def _positions(self) -> int:
        """Return the length of the position tables, or 0 if there is none.

        The tables are not stored, but computed. So ValueError is raised for a table with other values.
        """
        tables = {key: t for key, t in self.weights.tensors.items() if re.match(self.naming.positions, key)}
        self.skip(set(tables))
        length = next(iter(tables.values())).shape[-2:-1] if tables else ()
        for key, table in tables.items():
            check_dtype(self.weights.path, key, table)
            if not length or table.shape[-2:-1] != length or not is_sinusoids(table):
                raise ValueError(
                    f"{self.weights.path}: {key} is not the usual table of sinusoids, so the file is for another "
                    "architecture; use the original file."
                )
        return length[0] if length else 0


def is_sinusoids(table: Tensor) -> bool:
    """Return whether a table [1, length, channels] has the sinusoids that the modules compute."""
    if table.ndim != 3 or len(table) != 1 or table.shape[-1] % 2:
        return False
    return torch.allclose(table[0].float(), interleaved_positions(table.shape[-2], table.shape[-1]), atol=0.01)
