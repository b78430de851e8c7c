"""Hangs temporal layers on a ComfyUI MODEL, without touching the checkpoint that other nodes share.

The spatial weights of all clones of a MODEL are one module, so nothing may stay on it: the layers are attached when
ComfyUI calls the model and taken off when that call returns. Between two calls, and whenever ComfyUI patches,
moves, saves or frees weights, the module is the plain checkpoint. This is why the swap is made here and not in
`ModelPatcher.set_injections`, whose layers stay on between prompts, vanish when any clone is freed, and come off in
the wrong order when another pack replaced a `forward` in between.

ComfyUI treats the temporal weights as an additional model: it counts, loads and offloads them.
"""

from __future__ import annotations

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import torch
from comfy.patcher_extension import WrappersMP

from ..temporal_layers.attach import attach, detach
from ..temporal_layers.files import check_fits
from ..temporal_layers.info import LayersInfo
from ..temporal_layers.layers import TemporalLayers
from .guards import check_order, guard
from .notices import notice
from .schedule import predicts_v, set_schedule
from .strength import active_setting
from .videos import FRAMES, LAYERS, frames_in_call, with_window

KEY = LAYERS
CHECKPOINT_PREDICTS_V = "emu_video_checkpoint_predicts_v"
STRENGTH = "emu_video_strength"
VALUES = "emu_video_values"


def inject(
    model: comfy.model_patcher.ModelPatcher,
    state_dict: dict[str, torch.Tensor],
    info: LayersInfo,
    name: str,
    frames: int = 0,
) -> comfy.model_patcher.ModelPatcher:
    """A clone of `model` with temporal layers on it, and the noise schedule that they were trained with.

    name: what messages call the layers, for example their file.
    frames: frames of one video; 0 takes the whole batch for one video.

    Layers that `model` already carries are replaced, not added to. Raises ValueError for a base model that the
    layers were not trained on, for one with image channels of its own (inpainting), and for one that predicts v where
    the layers were trained on one that predicts eps. Layers trained for v on an eps checkpoint, as FancyVideo's, fit.
    """
    check_fits(model.model.diffusion_model, info, name)
    earlier = layers_info(model)
    checkpoint_predicts_v = predicts_v(model) if earlier is None else model.get_attachment(CHECKPOINT_PREDICTS_V)
    if info.prediction == "eps" and checkpoint_predicts_v:
        raise ValueError(
            f"{name} was trained on a checkpoint that predicts noise (eps), but this one predicts v, which would give "
            "noise: use an eps checkpoint (of SD 2.1 the 512 one)."
        )
    if info.zero_terminal_snr:
        check_order(model)
    if earlier is not None:
        notice(f"The temporal layers {name} replace the ones of {earlier.family} that this MODEL had.")
    clone = model.clone()
    weights = load_patcher(state_dict, info, model.load_device, model.offload_device, model.model.get_dtype_inference())
    clone.set_additional_models(KEY, [weights])
    clone.set_attachments(KEY, info)
    clone.set_attachments(FRAMES, frames)
    clone.set_attachments(CHECKPOINT_PREDICTS_V, checkpoint_predicts_v)
    for setting in (STRENGTH, VALUES):
        clone.remove_attachments(setting)
    clone.remove_wrappers_with_key(WrappersMP.APPLY_MODEL, KEY)
    clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, with_layers)
    set_schedule(clone, info.prediction, info.betas, info.zero_terminal_snr)
    guard(clone)
    return clone


def layers_info(model: comfy.model_patcher.ModelPatcher) -> LayersInfo | None:
    """What is known of the temporal layers that a MODEL carries; None where it carries none."""
    return model.get_attachment(KEY)


def check_layers(model: comfy.model_patcher.ModelPatcher) -> LayersInfo:
    """The same, but raises ValueError where the MODEL has no temporal layers."""
    info = layers_info(model)
    if info is None:
        raise ValueError("This model has no temporal layers: connect the one that Load Temporal Layers gives.")
    return info


def load_patcher(
    state_dict: dict[str, torch.Tensor],
    info: LayersInfo,
    load_device: torch.device,
    offload_device: torch.device,
    dtype: torch.dtype,
    disable_dynamic: bool = False,
) -> comfy.model_patcher.ModelPatcher:
    """The temporal weights as a model that ComfyUI manages; also called by ComfyUI for one on another GPU."""
    layers = TemporalLayers.of(info, comfy.ops.manual_cast)
    layers.load_state_dict({key: weight.to(dtype) for key, weight in state_dict.items()}, assign=True)
    layers.eval().requires_grad_(False)
    comfy.model_management.archive_model_dtypes(layers)
    patcher_class = comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = patcher_class(layers, load_device, offload_device)
    patcher.cached_patcher_init = (load_patcher, (state_dict, info, load_device, offload_device, dtype))
    return patcher


def with_layers(executor, x, t, c_concat, c_crossattn, control, transformer_options, **conds):
    """The APPLY_MODEL wrapper that runs one call of the model with the layers on.

    It finds the model and its layers through the call that it serves, because ComfyUI gives the same wrapper to
    clones with a model of their own (other devices, torch.compile). The number of frames is set on the layers
    before the call, outside of anything that torch.compile traces: guards on `transformer_options` are dropped there.
    """
    model = executor.class_obj
    unet = getattr(model.diffusion_model, "_orig_mod", model.diffusion_model)  # under torch.compile
    patcher = model.current_patcher
    layers = patcher.get_additional_models_with_key(KEY)[0].model
    batch = x.shape[0] // len(transformer_options["cond_or_uncond"])
    layers.frames = frames_in_call(batch, patcher.get_attachment(FRAMES), transformer_options)
    setting = active_setting(patcher.get_attachment(STRENGTH) or (), model.model_sampling, transformer_options)
    layers.strength = setting.strengths(batch, layers.frames, transformer_options)
    layers.set_key_scale(setting.key_scale)
    layers.set_values(patcher.get_attachment(VALUES))
    attach(unet, layers, owner=layers)
    try:
        return executor(x, t, c_concat, c_crossattn, control, with_window(transformer_options), **conds)
    finally:
        detach(unet, owner=layers)
