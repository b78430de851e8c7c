"""TemporalLayers: the temporal modules of one UNet, keyed by the names of their anchors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .anchors import CONV_IN, Anchor
from .modules import TemporalAttention, TemporalConv

EXTRA = f"{CONV_IN}.extra"
MODULES = {"conv": TemporalConv, "attention": TemporalAttention}


class TemporalLayers(nn.Module):
    """One module behind each anchor, and the extra convolution that reads the conditioning channels.

    state_dict keys are `<anchor name>.<module parameter>`; the extra convolution, which adds C+1 conditioning
    channels to the output of conv_in (Emu Video section 3.1), is `input_blocks.0.0.extra.weight`. It exists
    when conditioning_channels > 0.

    `frames` is the number of frames of one clip: set it before each call of the UNet. 1 skips the layers.

    Weights are undefined until loaded: `layers.load_state_dict(layers.fresh_state_dict())` for new ones.
    """

    frames: int

    def __init__(self, anchors: Iterable[Anchor], conditioning_channels: int, operations=nn):
        super().__init__()
        self.anchors = tuple(anchors)
        self.conditioning_channels = conditioning_channels
        self.frames = 1
        for anchor in self.anchors:
            if anchor.kind not in MODULES:
                raise ValueError(f'anchor {anchor.name} is a "{anchor.kind}"; use "conv" or "attention".')
            self._add(anchor.name, MODULES[anchor.kind](anchor.channels, operations=operations))
        if conditioning_channels:
            width = next((a.channels for a in self.anchors if a.name == CONV_IN), None)
            if width is None:
                raise ValueError(f"conditioning channels need the anchor {CONV_IN}; the anchors given lack it.")
            self._add(EXTRA, operations.Conv2d(conditioning_channels, width, 3, padding=1, bias=False))

    def __getitem__(self, name: str) -> Any:
        """The module behind the anchor of that name."""
        return self.get_submodule(name)

    def items(self) -> Iterator[tuple[str, Any]]:
        """(anchor name, module) in the order of the anchors."""
        return ((anchor.name, self[anchor.name]) for anchor in self.anchors)

    def fresh_state_dict(self, seed: int = 0) -> dict[str, Tensor]:
        """New weights in float32 with which the UNet's output is that of each frame by itself, bit for bit.

        Last layers and the extra convolution are zero, the rest is torch's own initialisation from `seed`.
        The layers themselves are not read: their operations may leave weights undefined or absent.
        """
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.manual_seed(seed)
            twin = TemporalLayers(self.anchors, self.conditioning_channels)
        for _, module in twin.items():
            module.zero_()
        if twin.extra is not None:
            nn.init.zeros_(twin.extra.weight)
        return twin.state_dict()

    @property
    def extra(self) -> Any:
        """The extra convolution, or None without conditioning channels."""
        return self.get_submodule(EXTRA) if self.conditioning_channels else None

    def _add(self, name: str, module: nn.Module) -> None:
        *path, leaf = name.split(".")
        parent: nn.Module = self
        for part in path:
            if part not in parent._modules:
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        parent.add_module(leaf, module)
