"""What a user may set on the temporal layers of a MODEL: their strength, the numbers they are told, motion LoRAs."""

from __future__ import annotations

from collections.abc import Mapping

import comfy.model_patcher
from comfy.weight_adapter.lora import LoRAAdapter

from ..temporal_layers.formats.motion_lora import pairs
from ..temporal_layers.formats.weights import Weights
from ..temporal_layers.info import LayersInfo
from ..temporal_layers.layers import ATTENTIONS, CONVOLUTIONS
from .injection import KEY, STRENGTH, VALUES, layers_info


def with_strength(
    model: comfy.model_patcher.ModelPatcher, attention: float, convolution: float
) -> comfy.model_patcher.ModelPatcher:
    """A clone on which so much is kept of what the temporal attentions and convolutions change."""
    _info(model)
    clone = model.clone()
    strength = dict.fromkeys(ATTENTIONS, attention) | dict.fromkeys(CONVOLUTIONS, convolution)
    clone.set_attachments(STRENGTH, strength)
    return clone


def with_values(
    model: comfy.model_patcher.ModelPatcher, values: Mapping[str, float]
) -> comfy.model_patcher.ModelPatcher:
    """A clone whose temporal layers are told these numbers. Raises ValueError where they ask for none."""
    info = _info(model)
    asked = info.modules.get("embedding", {}).get("values", {})
    if not asked:
        raise ValueError(f"These temporal layers ({info.family}) ask for no frame rate or motion: leave this node out.")
    clone = model.clone()
    clone.set_attachments(VALUES, {name: value for name, value in values.items() if name in asked})
    return clone


def with_motion_lora(
    model: comfy.model_patcher.ModelPatcher, lora: Weights, strength: float
) -> comfy.model_patcher.ModelPatcher:
    """A clone whose temporal layers have the motion LoRA merged in, beside those that they have already."""
    patches = {
        key: LoRAAdapter(set(), (up, down, None, None, None, None))
        for key, (up, down) in pairs(lora, _info(model)).items()
    }
    clone = model.clone()
    layers = clone.get_additional_models_with_key(KEY)[0].clone()
    layers.add_patches(patches, strength)
    clone.set_additional_models(KEY, [layers])
    return clone


def _info(model: comfy.model_patcher.ModelPatcher) -> LayersInfo:
    info = layers_info(model)
    if info is None:
        raise ValueError("This model has no temporal layers: connect the one that Load Temporal Layers gives.")
    return info
