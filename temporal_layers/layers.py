"""TemporalLayers: the temporal modules of one UNet, keyed by the names of their anchors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from .anchors import CONV_IN, Anchor
from .modules import TemporalAttention, TemporalConv
from .motion_modules import TemporalTransformer
from .motion_modules_conv import TemporalConvStack
from .motion_modules_input import ClipNorm, Input, ValueEmbeddings

EXTRA = f"{CONV_IN}.extra"
MODULES = {
    "conv": TemporalConv,
    "attention": TemporalAttention,
    "transformer": TemporalTransformer,
    "transformer_in": TemporalTransformer,
    "conv_stack": TemporalConvStack,
    "input": Input,
    "clip_norm": ClipNorm,
    "embedding": ValueEmbeddings,
}
ATTENTIONS = ("attention", "transformer", "transformer_in", "clip_norm")  # the last is on, or at 0 off
CONVOLUTIONS = ("conv", "conv_stack")


class TemporalLayers(nn.Module):
    """One module behind each anchor, and the extra convolution that reads the conditioning channels.

    state_dict keys are `<anchor name>.<module parameter>`; the extra convolution, which adds C+1 conditioning
    channels to the output of conv_in (Emu Video section 3.1), is `input_blocks.0.0.extra.weight`. It exists
    when conditioning_channels > 0.

    `frames` is the number of frames of one clip: set it before each call of the UNet. 1 skips the layers.

    modules: options of the modules of each kind of anchor, {kind: {option: value}}.

    `strength` says how much of what a module changes is kept, by kind of anchor: 1 where it says nothing.

    Weights are undefined until loaded: `layers.load_state_dict(layers.fresh_state_dict())` for new ones.
    """

    frames: int

    def __init__(
        self,
        anchors: Iterable[Anchor],
        conditioning_channels: int,
        operations=nn,
        modules: Mapping[str, Mapping[str, Any]] | None = None,
    ):
        super().__init__()
        self.anchors = tuple(anchors)
        self._kinds = {anchor.name: anchor.kind for anchor in self.anchors}
        self.options = dict(modules or {})
        self.conditioning_channels = conditioning_channels
        self.frames = 1
        self.strength: dict[str, float] = {}
        for anchor in self.anchors:
            if anchor.kind not in MODULES:
                raise ValueError(f'anchor {anchor.name} is a "{anchor.kind}"; use {_list(MODULES)}.')
            self._add(anchor.name, self._module(anchor, operations))
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

    def strength_at(self, name: str) -> float:
        """Strength of the module behind the anchor of that name."""
        return self.strength.get(self._kinds[name], 1.0) if self.strength else 1.0

    def set_values(self, values: Mapping[str, float] | None) -> None:
        """The numbers that the layers' embeddings are told (frames per second, ...); None: those of their options."""
        for anchor in self.anchors:
            if anchor.kind == "embedding":
                self[anchor.name].values = dict(self.options[anchor.kind]["values"] if values is None else values)

    def fresh_state_dict(self, seed: int = 0) -> dict[str, Tensor]:
        """New weights in float32 with which the UNet's output is that of each frame by itself, bit for bit.

        Last layers and the extra convolution are zero, the rest is torch's own initialisation from `seed`.
        The layers themselves are not read: their operations may leave weights undefined or absent.
        """
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.manual_seed(seed)
            twin = TemporalLayers(self.anchors, self.conditioning_channels, modules=self.options)
        for _, module in twin.items():
            module.zero_()
        if twin.extra is not None:
            nn.init.zeros_(twin.extra.weight)
        return twin.state_dict()

    @property
    def extra(self) -> Any:
        """The extra convolution, or None without conditioning channels."""
        return self.get_submodule(EXTRA) if self.conditioning_channels else None

    def _module(self, anchor: Anchor, operations) -> Any:
        kind, options = MODULES[anchor.kind], self.options.get(anchor.kind, {})
        unknown = options.keys() - signature(kind).parameters.keys()
        if unknown:
            raise ValueError(f'modules of the kind "{anchor.kind}" have no option {_list(sorted(unknown))}.')
        return kind(anchor.channels, operations=operations, **options)

    def _add(self, name: str, module: nn.Module) -> None:
        *path, leaf = name.split(".")
        parent: nn.Module = self
        for part in path:
            if part not in parent._modules:
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        parent.add_module(leaf, module)


def _list(names: Iterable[str]) -> str:
    return " or ".join(f'"{name}"' for name in names)
