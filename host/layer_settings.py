"""Settings of the temporal layers of a MODEL: strength, values of embeddings, motion LoRAs."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from typing import Any

import comfy.model_patcher
from comfy.weight_adapter.lora import LoRAAdapter

from ..temporal_layers.formats.motion_lora import motion_lora
from ..temporal_layers.kinds import KINDS
from ..temporal_layers.reader import Weights
from .injection import KEY, VALUES, check_layers
from .strength import STRENGTH, Setting
from .values import check_finite


def with_strength(
    model: comfy.model_patcher.ModelPatcher, attention: float, convolution: float, **limits: Any
) -> comfy.model_patcher.ModelPatcher:
    """Return a clone with a strength of its temporal attentions and convolutions.

    Args:
        attention, convolution: share of the change that is kept, 1 = as trained.
        limits: further fields of `strength.Setting`: key_scale, start, end, per_frame, mask.

    Raises:
        ValueError: for convolutions on layers that have none, and for values out of range.
    """
    info = check_layers(model)
    if convolution != 1.0 and not any(KINDS[anchor.kind].strength == "convolution" for anchor in info.anchors):
        raise ValueError(f"These temporal layers ({info.family}) have no convolutions: leave convolution at 1.")
    setting = Setting(attention, convolution, **limits)
    clone = model.clone()
    clone.set_attachments(STRENGTH, (*(model.get_attachment(STRENGTH) or ()), setting))
    return clone


def with_values(
    model: comfy.model_patcher.ModelPatcher, values: Mapping[str, float]
) -> comfy.model_patcher.ModelPatcher:
    """Return a clone whose temporal layers embed these values. Raises ValueError if they have no such embedding."""
    info = check_layers(model)
    asked = info.modules.get("embedding", {}).get("values", {})
    if not asked:
        raise ValueError(
            f"These temporal layers ({info.family}) have no setting for frame rate or motion: remove this node."
        )
    check_finite(**values)
    clone = model.clone()
    clone.set_attachments(VALUES, {name: value for name, value in values.items() if name in asked})
    return clone


def with_motion_lora(
    model: comfy.model_patcher.ModelPatcher, lora: Weights, strength: float
) -> comfy.model_patcher.ModelPatcher:
    """Return a clone whose temporal layers have the motion LoRA in addition to those that they already have."""
    read = motion_lora(lora, check_layers(model))
    if read.left_out:
        logging.warning(
            "%s: %d keys are for the image model and are not used here. To use them, load the file with Load LoRA, "
            "too.",
            lora.path,
            len(read.left_out),
        )
    check_finite(strength=strength)
    patches = {
        key: LoRAAdapter(set(), (change.up, change.down, change.alpha, None, None, None))
        for key, change in read.changes.items()
    }
    clone = model.clone()
    layers = clone.get_additional_models_with_key(KEY)[0].clone()
    layers.clone_base_uuid = uuid.uuid4()  # otherwise copies on other GPUs (MultiGPU CFG Split) keep the old weights
    layers.add_patches(patches, strength)
    clone.set_additional_models(KEY, [layers])
    return clone
