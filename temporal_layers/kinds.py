"""Table of the kinds of temporal modules: class, modules that it can be attached to, and strength group."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_type_hints

from pydantic import BaseModel, ValidationError, create_model
from torch import nn

from .backbones.base import STRICT, Anchor, Backbone
from .modules.attention import TemporalAttention
from .modules.base import TemporalModule
from .modules.conditioning_conv import NoModule
from .modules.conv import TemporalConv
from .modules.conv_stack import TemporalConvStack
from .modules.group_norm_over_frames import GroupNormOverFrames
from .modules.transformer import TemporalTransformer
from .modules.value_embedding import ValueEmbeddings
from .sentences import first_fault

Strength = Literal["attention", "convolution", "none"]


@dataclass(frozen=True)
class Kind:
    """A kind of temporal module.

    module: its class. carried_by: sorts of modules (backbones.base.Part) that it can be attached to. strength: the
    group of modules whose strength a user sets together.
    """

    module: type[TemporalModule]
    carried_by: tuple[str, ...]
    strength: Strength

    @cached_property
    def options(self) -> type[BaseModel]:
        """Options that a file may state for modules of this kind, from the annotations of the constructor."""
        hints = get_type_hints(self.module.__init__, include_extras=True)
        parameters = inspect.signature(self.module).parameters.values()
        fields = {
            parameter.name: (hints[parameter.name], ... if parameter.default is parameter.empty else parameter.default)
            for parameter in parameters
            if parameter.name not in ("channels", "operations")
        }
        return create_model(f"{self.module.__name__}Options", __config__=STRICT, **fields)  # pyright: ignore


KINDS: dict[str, Kind] = {
    "conv": Kind(TemporalConv, ("spatial_conv",), "convolution"),
    "attention": Kind(TemporalAttention, ("spatial_transformer", "transformer_block"), "attention"),
    "transformer": Kind(TemporalTransformer, ("spatial_transformer", "residual_block"), "attention"),
    "transformer_in": Kind(TemporalTransformer, ("spatial_conv",), "attention"),
    "conv_stack": Kind(TemporalConvStack, ("residual_block",), "convolution"),
    "input": Kind(NoModule, ("spatial_conv",), "none"),
    "clip_norm": Kind(GroupNormOverFrames, ("group_norm",), "attention"),  # on, or off at strength 0
    "embedding": Kind(ValueEmbeddings, ("time_embedding",), "none"),
}
"""Keys are the names that files use."""


def kind_of(anchor: Anchor) -> Kind:
    """Return the kind of an anchor. Raises ValueError for an unknown one."""
    if anchor.kind not in KINDS:
        raise ValueError(f'anchor {anchor.name} has the unknown kind "{anchor.kind}"; known are {", ".join(KINDS)}.')
    return KINDS[anchor.kind]


def new_module(anchor: Anchor, options: Mapping[str, Any], operations: Any = nn) -> TemporalModule:
    """Return a new module for an anchor. Raises ValueError for invalid options or channels."""
    kind = kind_of(anchor)
    try:
        kind.options.model_validate(dict(options))
    except ValidationError as error:
        raise ValueError(f'the options of "{anchor.kind}" are wrong: {first_fault(error)}.') from None
    return kind.module(anchor.channels, operations=operations, **options)


def carries(backbone: Backbone, module: nn.Module, anchor: Anchor) -> bool:
    """Return whether `anchor` may be attached to `module`: matching kind and channel count."""
    part = backbone.part(module)
    return part is not None and part.sort in kind_of(anchor).carried_by and part.channels == anchor.channels


def strengths(**groups: float) -> dict[str, float]:
    """Return the strength of each kind from that of its group, for example strengths(attention=0.5)."""
    return {name: groups[kind.strength] for name, kind in KINDS.items() if kind.strength in groups}
