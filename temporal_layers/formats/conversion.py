"""Conversion of a public file's keys to `<anchor>.<module parameter>`. Unknown keys are refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..backbones.unet import CONV_IN, LATENT_CHANNELS, Anchor
from ..files import check_dtype, check_tensors
from ..info import LayersInfo
from ..kinds import new_module
from ..layers import EXTRA
from ..reader import Weights

# Weights of the image model, as diffusers and LDM name them. They are not used, because the checkpoint has its own.
SPATIAL = re.compile(
    r"(conv_in|conv_out|conv_norm_out|time_embedding|class_embedding|add_embedding"
    r"|(down_blocks|up_blocks)\.\d+\.(resnets|attentions|downsamplers|upsamplers)"
    r"|mid_block\.(resnets|attentions)|time_embed|label_emb|input_blocks|middle_block|output_blocks|out"
    r"|first_stage_model|cond_stage_model|conditioner)\."
)

MAX_WIDTH = 2**14
OTHER_BASE = "choose temporal layers for SD1.5, SD2.1 or SDXL."

Converted = tuple[dict[str, Tensor], LayersInfo]
"""State dict and LayersInfo, as in a file in the pack's own format."""


@dataclass(frozen=True)
class Options:
    """User overrides of what the file states.

    family: name of the family, for files that cannot be identified automatically; "" = by keys and shapes.
    transformer_norm: whether the group norms of temporal transformers average over one "frame" or over the whole
        "clip"; "" = as the family was trained. resnet_norm: the same for the UNet's residual blocks and output.
    """

    family: str = ""
    transformer_norm: str = ""
    resnet_norm: str = ""


AS_TRAINED = Options()


class Conversion:
    """Collector of anchors and renamed weights. `result` refuses a file with unused keys."""

    def __init__(self, weights: Weights):
        self.weights = weights
        self.anchors: list[Anchor] = []
        self.modules: dict[str, dict[str, Any]] = {}
        self.state_dict: dict[str, Tensor] = {}
        self.conditioning_channels = 0
        self._used: set[str] = set()
        self._slots: list[str] = []

    def add(self, anchor: Anchor, slot: str, keys: Mapping[str, str], **options: Any) -> None:
        """Read the weights of `anchor`'s module from the keys `<slot><name in the file>.<weight | bias>`.

        keys: {name of a submodule: its name in the file}. options: options of the module, equal for modules of one
        kind. Raises ValueError for a missing key, or a tensor of another shape.
        """
        self.modules |= {anchor.kind: options} if options else {}
        self.anchors.append(anchor)
        self._slots += [slot] if slot else []
        with torch.device("meta"):
            try:
                expected = new_module(anchor, options).state_dict()
            except ValueError as error:
                raise ValueError(f"{self.weights.path}: {str(error).rstrip('.')}; {OTHER_BASE}") from None
        for parameter, like in expected.items():
            submodule, leaf = parameter.rsplit(".", 1)
            self.state_dict[f"{anchor.name}.{parameter}"] = self.take(f"{slot}{keys[submodule]}.{leaf}", like.shape)

    def take_conditioning(self, channels: int, key: str = "conv_in.weight") -> None:
        """Read the weights of the file's first convolution for the conditioning channels.

        Its weights for the latent channels and its bias are not used, because the checkpoint has its own.
        """
        width = self.width(key)
        weight = self.take(key, torch.Size((width, LATENT_CHANNELS + channels, 3, 3)))
        self.anchors.insert(0, Anchor(CONV_IN, "input", width))
        self.conditioning_channels = channels
        self.state_dict[f"{CONV_IN}.{EXTRA}.weight"] = weight[:, LATENT_CHANNELS:].contiguous()

    def take(self, key: str, shape: torch.Size) -> Tensor:
        """Return a tensor in `shape`. Trailing dimensions of 1 (Conv1d and Conv3d) are dropped."""
        tensor = self.get(key)
        self._used.add(key)
        if tensor.shape[: len(shape)] == shape and tensor.numel() == shape.numel():
            tensor = tensor.reshape(shape)
        if tensor.shape != shape:
            raise ValueError(
                f"{self.weights.path}: {key} has shape {list(self.weights.tensors[key].shape)} instead of "
                f"{list(shape)}; {OTHER_BASE}"
            )
        check_dtype(self.weights.path, key, tensor)
        return tensor

    def width(self, key: str) -> int:
        """Return the first dimension of a tensor, its number of channels. Raises ValueError if it is too large."""
        shape = self.get(key).shape
        if not shape or shape[0] > MAX_WIDTH:
            raise ValueError(f"{self.weights.path}: {key} has shape {list(shape)}; {OTHER_BASE}")
        return shape[0]

    def get(self, key: str) -> Tensor:
        """Return a tensor of the file. Raises ValueError if it is missing."""
        if key not in self.weights.tensors:
            raise ValueError(f"{self.weights.path} is missing the key {key}; download it again.")
        return self.weights.tensors[key]

    def skip(self, keys: set[str]) -> None:
        """Mark keys as known although they are not needed."""
        self._used |= keys

    def result(self, **facts: Any) -> Converted:
        """Return the converted layers. Raises ValueError if a key of the file is unused.

        facts: entries of LayersInfo that depend on the family.
        """
        left = self.weights.tensors.keys() - self._used
        unknown = {key for key in left if not SPATIAL.match(key) or key.startswith(tuple(self._slots))}
        if unknown:
            raise ValueError(
                f"{self.weights.path} has the unknown key {min(unknown)}. The file is for another architecture than "
                f"{facts['family']}, or from a newer program; choose another file."
            )
        info = LayersInfo(
            role="video",
            anchors=tuple(self.anchors),
            conditioning_channels=self.conditioning_channels,
            modules=self.modules,
            source=re.split(r"[\\/]", self.weights.path)[-1],
            left_out=len(left),
            **facts,
        )
        check_tensors(self.weights.path, self.state_dict, info)
        return self.state_dict, info
