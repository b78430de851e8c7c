"""Backbone: everything that temporal layers need to know about a kind of image model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass
from torch import Tensor, nn

STRICT = ConfigDict(extra="forbid", strict=True)
PLACEMENTS = ("per_transformer", "per_block")


@checked_dataclass(frozen=True, config=STRICT)
class Anchor:
    """A module of the image model, by name, and the kind of temporal module attached to it.

    kind: key of `kinds.KINDS`; "conv" and "attention" in Emu Video's own layers.
    channels: width of the anchor's output.
    """

    name: Annotated[str, Field(pattern=r"^\w+(\.\w+)*$", max_length=200)]
    kind: Annotated[str, Field(max_length=40)]
    channels: Annotated[int, Field(ge=1, le=2**16)]


@dataclass(frozen=True)
class Part:
    """Type and output width of an image model's module. The types are the same for all backbones.

    sort: "spatial_conv", "spatial_transformer", "transformer_block", "residual_block", "time_embedding", "group_norm".
    """

    sort: str
    channels: int


class Backbone(Protocol):
    """One kind of image model (a UNet, later diffusion transformers). `backbones.BACKBONES` lists them."""

    latent_channels: int
    input_anchor: str
    """Name of the module that reads the latents, where conditioning channels enter."""

    @property
    def bases(self) -> tuple[str, ...]:
        """Names of the image models of this kind that temporal layers are made for."""
        ...

    def recognises(self, network: nn.Module) -> bool:
        """Return whether the network is a model of this kind."""
        ...

    def identify(self, network: nn.Module) -> str:
        """Return which of `bases` the network is. Raises ValueError, with the shape found, if it is none of them."""
        ...

    def modules(self, network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        """Yield (name, module) of the model's own modules. Names do not depend on modules that others inserted."""
        ...

    def anchors(self, network: nn.Module, placement: str) -> tuple[Anchor, ...]:
        """Return the anchors of Emu Video's own layers. placement: one of PLACEMENTS."""
        ...

    def part(self, module: nn.Module) -> Part | None:
        """Return the type and width of `module`, or None if no temporal module can be attached to it."""
        ...

    def to_frames(self, out: Any) -> tuple[Tensor, Callable[[Tensor], Any]]:
        """Return the frames in an anchor's output, (b t) c h w or (b t) c, and how to put changed frames back."""
        ...

    def conditioning_conv(self, channels: int, width: int, operations: Any) -> nn.Module:
        """Return the convolution of conditioning channels whose output is added to the input anchor's."""
        ...
