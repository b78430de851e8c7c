"""Attach temporal layers to a ComfyUI MODEL without changing the checkpoint that other nodes share.

All clones of a MODEL share one module with the spatial weights. So the layers are attached when ComfyUI calls the model
and detached when that call returns. Between two calls, and whenever ComfyUI patches, moves, saves or frees weights, the
module is the plain checkpoint.

`ModelPatcher.set_injections` is not used for three reasons. Its layers stay attached between prompts. They vanish when
any clone is freed. They are removed in the wrong order if another pack has replaced a `forward` in the meantime.

The temporal weights are an additional model of the MODEL, so ComfyUI counts, loads and offloads them.
"""

from __future__ import annotations

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import torch
from comfy.patcher_extension import CallbacksMP, WrappersMP

from ..temporal_layers.attach import attach, detach
from ..temporal_layers.files import check_fits
from ..temporal_layers.info import LayersInfo
from ..temporal_layers.layers import TemporalLayers
from .guards import check_order, guard, unguard
from .notices import notice
from .schedule import SCHEDULE, predicts_v, set_schedule
from .strength import STRENGTH, active_setting
from .videos import FRAMES, LAYERS, frames_in_call, with_window

KEY = LAYERS
CHECKPOINT_PREDICTS_V = "emu_video_checkpoint_predicts_v"
VALUES = "emu_video_values"


def inject(
    model: comfy.model_patcher.ModelPatcher,
    state_dict: dict[str, torch.Tensor],
    info: LayersInfo,
    name: str,
    frames: int = 0,
) -> comfy.model_patcher.ModelPatcher:
    """Return a clone of `model` with temporal layers and the noise schedule that they were trained with.

    Layers that `model` already has are replaced. Layers trained for v on an eps checkpoint (FancyVideo) are accepted.

    Args:
        name: name of the layers in messages, for example their file.
        frames: frames of one video; 0: the whole batch is one video.

    Raises:
        ValueError: for another base model, for an inpainting checkpoint, and for a checkpoint that predicts v if the
            layers were trained on one that predicts eps.
    """
    check_fits(model.model.diffusion_model, info, name)
    earlier = layers_info(model)
    checkpoint_predicts_v = predicts_v(model) if earlier is None else model.get_attachment(CHECKPOINT_PREDICTS_V)
    if info.prediction == "eps" and checkpoint_predicts_v:
        raise ValueError(
            f"{name} was trained on a checkpoint that predicts noise (eps), but this checkpoint predicts v, so the "
            "video would be noise: use an eps checkpoint (for SD 2.1 the one for 512 pixels)."
        )
    if info.zero_terminal_snr:
        check_order(model)
    if earlier is not None:
        notice(f"The temporal layers {name} replace the {earlier.family} layers that this MODEL already had.")
    clone = model.clone()
    devices = model.load_device, model.offload_device
    weights = load_patcher(state_dict, info, devices, model.model.get_dtype_inference())
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


def without_layers(model: comfy.model_patcher.ModelPatcher) -> comfy.model_patcher.ModelPatcher:
    """Return a clone without temporal layers, with the checkpoint's own noise schedule.

    A schedule that another node has set is removed, too.
    """
    clone = model.clone()
    clone.object_patches.pop("model_sampling", None)
    clone.remove_additional_models(KEY)
    for attachment in (KEY, FRAMES, CHECKPOINT_PREDICTS_V, STRENGTH, VALUES, SCHEDULE):
        clone.remove_attachments(attachment)
    clone.remove_callbacks_with_key(CallbacksMP.ON_LOAD, SCHEDULE)
    clone.remove_wrappers_with_key(WrappersMP.APPLY_MODEL, KEY)
    unguard(clone)
    return clone


def layers_info(model: comfy.model_patcher.ModelPatcher) -> LayersInfo | None:
    """Return the info of a MODEL's temporal layers, or None if it has none."""
    return model.get_attachment(KEY)


def check_layers(model: comfy.model_patcher.ModelPatcher) -> LayersInfo:
    """Return the info of a MODEL's temporal layers. Raises ValueError if it has none."""
    info = layers_info(model)
    if info is None:
        raise ValueError("This MODEL has no temporal layers: connect the model output of Load Temporal Layers.")
    return info


def load_patcher(
    state_dict: dict[str, torch.Tensor],
    info: LayersInfo,
    devices: tuple[torch.device, torch.device],
    dtype: torch.dtype,
    disable_dynamic: bool = False,
) -> comfy.model_patcher.ModelPatcher:
    """Return the temporal weights as a ModelPatcher. ComfyUI also calls this to make a copy for another GPU.

    devices: where the weights are loaded for sampling, and where they are offloaded.
    """
    layers = TemporalLayers.of(info, comfy.ops.manual_cast)
    layers.load_state_dict({key: weight.to(dtype) for key, weight in state_dict.items()}, assign=True)
    layers.eval().requires_grad_(False)
    comfy.model_management.archive_model_dtypes(layers)
    patcher_class = comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = patcher_class(layers, *devices)
    patcher.cached_patcher_init = (load_patcher, (state_dict, info, devices, dtype))
    return patcher


def with_layers(executor, x, t, c_concat, c_crossattn, control, transformer_options, **conds):  # noqa: PLR0917 (ComfyUI's)
    """Run one call of the model with the layers attached. An APPLY_MODEL wrapper.

    Model and layers are taken from `executor`, because ComfyUI gives the same wrapper to clones with another model
    (other devices, torch.compile). The number of frames is set on the layers before the call, outside of the code that
    torch.compile traces, because it drops guards on `transformer_options`.
    """
    model = executor.class_obj
    unet = getattr(model.diffusion_model, "_orig_mod", model.diffusion_model)  # under torch.compile
    patcher = model.current_patcher
    found = patcher.get_additional_models_with_key(KEY)
    if not found:
        raise ValueError(
            "A guider (Dual Model CFG Guider) samples a MODEL without temporal layers with the settings of one that "
            "has them: connect Load Temporal Layers to both, or use CFG Guider."
        )
    layers = found[0].model
    batch = x.shape[0] // len(transformer_options["cond_or_uncond"])
    layers.frames = frames_in_call(batch, patcher.get_attachment(FRAMES), transformer_options)
    setting = active_setting(patcher.get_attachment(STRENGTH) or (), model.model_sampling, transformer_options)
    layers.strength = setting.strengths(batch, layers.frames, x.shape[2:], transformer_options)
    layers.set_key_scale(setting.key_scale)
    layers.set_values(patcher.get_attachment(VALUES))
    attach(unet, layers, owner=layers)
    try:
        return executor(x, t, c_concat, c_crossattn, control, with_window(transformer_options), **conds)
    finally:
        detach(unet, owner=layers)
