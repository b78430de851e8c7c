"""TemporalLayers: the temporal modules of one image model, keyed by the names of their anchors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .backbones import UNET, Anchor, Backbone, backbone_of
from .info import LayersInfo
from .kinds import kind_of, new_module
from .modules.base import Strength, TemporalModule, ToFrames
from .modules.conditioning_conv import ConditioningConv

EXTRA = "extra"  # file key of the conditioning convolution, below the input anchor's name


@dataclass
class Call:
    """Settings of one call of the network.

    They are an object separate from the layers. Otherwise the network would refer to an object that refers to the
    network, which ComfyUI reports as a memory leak.

    frames: frames of one video. strength: {kind: strength}, see `TemporalLayers`. kinds: {anchor name: kind}.
    """

    kinds: dict[str, str]
    to_frames: ToFrames
    frames: int = 1
    strength: dict[str, Strength] = field(default_factory=dict)

    def strength_at(self, name: str) -> Strength:
        """Return the strength of the module behind the anchor of that name."""
        return self.strength.get(self.kinds[name], 1.0) if self.strength else 1.0


class TemporalLayers(nn.Module):
    """One module behind each anchor, and the convolution that reads the conditioning channels.

    state_dict keys are `<anchor name>.<module parameter>`; the conditioning convolution, which adds C+1 conditioning
    channels to the output of the input anchor (Emu Video section 3.1), is `<input anchor>.extra.weight`. It exists
    when conditioning_channels > 0.

    `frames` is the number of frames of one video: set it before each call of the network. 1 skips the layers.

    modules: options of the modules of each kind of anchor, {kind: {option: value}}.

    `strength` is the share of each kind's change that is kept, {kind: strength}. The default is 1.
    A strength is a number, or a tensor with one value for each frame, [frames], or for each pixel, [frames, 1, h, w].

    Weights are undefined until loaded: `layers.load_state_dict(layers.fresh_state_dict())` for new ones.
    """

    def __init__(
        self,
        anchors: Iterable[Anchor],
        conditioning_channels: int,
        operations: Any = nn,
        modules: Mapping[str, Mapping[str, Any]] | None = None,
        backbone: Backbone = UNET,
    ):
        super().__init__()
        self.anchors = tuple(anchors)
        self.backbone = backbone
        self.call = Call({anchor.name: anchor.kind for anchor in self.anchors}, backbone.to_frames)
        self.options = dict(modules or {})
        self.conditioning_channels = conditioning_channels
        for anchor in self.anchors:
            kind_of(anchor)
            self._add(anchor.name, new_module(anchor, self.options.get(anchor.kind, {}), operations))
        if conditioning_channels:
            width = next((a.channels for a in self.anchors if a.name == backbone.input_anchor), None)
            if width is None:
                raise ValueError(f"conditioning channels need the anchor {backbone.input_anchor}, which is missing.")
            conv = backbone.conditioning_conv(conditioning_channels, width, operations)
            self._add(f"{backbone.input_anchor}.{EXTRA}", conv)

    @classmethod
    def of(cls, info: LayersInfo, operations: Any = nn) -> TemporalLayers:
        """Return the layers that a file's `info` describes, without their weights."""
        return cls(info.anchors, info.conditioning_channels, operations, info.modules, backbone_of(info.base))

    def __getitem__(self, name: str) -> Any:
        """Return the module behind the anchor of that name."""
        return self.get_submodule(name)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yield (anchor name, module) in the order of the anchors."""
        return ((anchor.name, self[anchor.name]) for anchor in self.anchors)

    def wrappers(self) -> Iterator[tuple[str, TemporalModule | ConditioningConv]]:
        """Yield (anchor name, wrapper of its `forward`). If an anchor has two wrappers, the inner one comes first."""
        if self.conditioning_channels:
            conv = ConditioningConv(self.conditioning_conv, self.backbone.latent_channels, self.conditioning_channels)
            yield self.backbone.input_anchor, conv
        yield from self.items()

    @property
    def frames(self) -> int:
        return self.call.frames

    @frames.setter
    def frames(self, frames: int) -> None:
        self.call.frames = frames

    @property
    def strength(self) -> dict[str, Strength]:
        return self.call.strength

    @strength.setter
    def strength(self, strength: dict[str, Strength]) -> None:
        self.call.strength = strength

    def set_key_scale(self, scale: float) -> None:
        """Multiply the keys of all attentions over frames by `scale`; 1 is as trained."""
        module: Any
        for module in self.modules():
            if hasattr(module, "key_scale"):
                module.key_scale = scale

    def set_values(self, values: Mapping[str, float] | None) -> None:
        """Set the numbers of value embeddings (frames per second, ...). None restores those of their options."""
        for anchor in self.anchors:
            if anchor.kind == "embedding":
                self[anchor.name].values = dict(self.options[anchor.kind]["values"] if values is None else values)

    def read_known_frames_with(self, convolution: Tensor) -> None:
        """Copy the image model's first convolution, [width, C, 3, 3], into the part that reads the known latents."""
        assert self.conditioning_conv is not None
        self.conditioning_conv.weight.data[:, : convolution.shape[1]] = convolution.detach()

    def fresh_state_dict(self, seed: int = 0) -> dict[str, Tensor]:
        """Return new float32 weights that leave the image model's output unchanged, bit for bit.

        Last layers and the conditioning convolution are zero. All other weights have torch's own initialisation from
        `seed`. The current weights are not read, because `operations` may leave them undefined or absent.
        """
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.manual_seed(seed)
            twin = TemporalLayers(
                self.anchors, self.conditioning_channels, modules=self.options, backbone=self.backbone
            )
        for _, module in twin.items():
            module.zero_()
        if twin.conditioning_conv is not None:
            for parameter in twin.conditioning_conv.parameters():
                nn.init.zeros_(parameter)
        return twin.state_dict()

    @property
    def conditioning_conv(self) -> Any:
        """Return the conditioning convolution, or None without conditioning channels."""
        return self.get_submodule(f"{self.backbone.input_anchor}.{EXTRA}") if self.conditioning_channels else None

    def _add(self, name: str, module: nn.Module) -> None:
        *path, leaf = name.split(".")
        parent: nn.Module = self
        try:
            for part in path:
                if part not in parent._modules:
                    parent.add_module(part, nn.Module())
                parent = parent.get_submodule(part)
            if leaf in parent._modules:
                raise KeyError(leaf)
            parent.add_module(leaf, module)
        except KeyError:
            raise ValueError(f"the anchor {name} has the same name as a part of another anchor's module.") from None
