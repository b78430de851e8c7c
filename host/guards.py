"""Checks before sampling: refuse graphs that would sample wrongly without an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..diffusion.schedule import Schedule, euler_spread
from ..temporal_layers.info import LayersInfo
from .cfg_hooks import adapt_hooks, call_frame_by_frame, node_of
from .control_hints import hints_follow_windows
from .notices import notice
from .schedule import SCHEDULE, Stated, ZeroSNRFlow
from .spans import VideoPart
from .strength import STRENGTH, Setting
from .videos import (
    FRAMES,
    LAYERS,
    PART,
    SAMPLED,
    SIZE,
    check_conditionings,
    check_frame_count,
    cut_masks,
    frames_per_video,
    sampled_part,
)

KEY = "emu_video_guards"
USE_ZERO_SNR = "use the scheduler simple with denoise 1, or Trailing Timesteps"
# ComfyUI's sampler functions, and their names in the front end, that do not work with a flow: they assume that x is x0
# plus noise, stop early, or do not converge.
NOT_FOR_FLOWS = {
    "sample_ddpm": "ddpm",
    "sample_unipc": "uni_pc",
    "sample_unipc_bh2": "uni_pc_bh2",
    "dpm_fast_function": "dpm_fast",
    "dpm_adaptive_function": "dpm_adaptive",
    "sample_dpmpp_2s_ancestral_cfg_pp": "dpmpp_2s_ancestral_cfg_pp",
    "sample_ipndm_v": "ipndm_v",
    "sample_res_multistep_ancestral": "res_multistep_ancestral",
    "sample_res_multistep_ancestral_cfg_pp": "res_multistep_ancestral_cfg_pp",
}
NODES_NOT_FOR_FLOWS = {"sample_lcm_upscale": "SamplerLCMUpscale", "VOID_DDIM": "VOIDSampler"}  # not in KSampler's list
FOR_DISTILLED = {"sample_lcm": "lcm"}
CAN_INVERT = ("sample_euler", "sample_ddim")  # sampler functions that support noise inversion
RANGE_OF_SIGMAS = ("PatchModelAddDownscale", "CFGOverride")  # node classes that store sigmas when they are executed
TOLERANCE = 1e-5
TRAILING = Schedule.from_betas()


def guard(model: comfy.model_patcher.ModelPatcher) -> None:
    """Add `check_sampling` to a MODEL whose noise schedule this pack has set."""
    unguard(model)
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, check_sampling)


def unguard(model: comfy.model_patcher.ModelPatcher) -> None:
    model.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, KEY)


def check_order(model: comfy.model_patcher.ModelPatcher, node: str = "Load Temporal Layers") -> None:
    """Refuse patches that store sigmas of the checkpoint, which the zero-SNR schedule of `node` replaces."""
    if isinstance(model.get_model_object("model_sampling"), ZeroSNRFlow):
        return
    patches = model.model_options.get("transformer_options", {}).get("patches", {})
    wrappers = model.wrappers.get(WrappersMP.PREDICT_NOISE, {})
    for function in [f for functions in [*patches.values(), *wrappers.values()] for f in functions]:
        if node_of(function) in RANGE_OF_SIGMAS:
            raise ValueError(
                f"{node_of(function)} uses the checkpoint's noise schedule, which {node} replaces: connect it behind "
                f"{node}."
            )


def check_sampling(executor: Any, noise: Tensor, latent_image: Tensor, sampler: Any, sigmas: Tensor, *args, **kwargs):
    """Check the graph, then sample. An OUTER_SAMPLE wrapper.

    Frame count and size of the whole latent are stored in the transformer options, because one call of the model may
    contain only a window of the frames, or several tiles of each.
    """
    guider = executor.class_obj
    model = guider.model_patcher
    sampling = model.get_model_object("model_sampling")
    info: LayersInfo | None = model.get_attachment(LAYERS)
    if type(guider).__name__ == "TrainGuider":  # its sigmas are numbers of images
        if info is not None:
            raise ValueError(
                "Train LoRA trains image models: connect the checkpoint's MODEL without temporal layers. For temporal "
                "layers use Train Temporal Layers."
            )
        return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
    if info is not None:
        check_schedule(model, sampling)
    check_sigmas(sigmas)
    cache = guider.model_options.get("transformer_options", {}).get("easycache")
    if cache is not None:
        # EasyCache and LazyCache read the schedule of the loaded model, before sampling would load this one.
        comfy.model_management.load_models_gpu([model])
    call_frame_by_frame(guider.model_options)
    if isinstance(sampling, ZeroSNRFlow):
        check_flow(sampler, sigmas, from_noise=not latent_image.any())
        adapt_hooks(guider.model_options)
    elif len(sigmas) > 1 and not latent_image.any():
        check_native_start(sampling, sigmas)
    if info is not None:
        check_latent(noise, model.model.latent_format)
        frames = frames_per_video(len(noise), model.get_attachment(FRAMES))
        check_frame_count(len(noise), frames)
        handler = guider.model_options.get("context_handler")
        check_context_windows(handler, info, videos=len(noise) // frames)
        check_cache(cache, handler)
        check_conditionings(guider.conds, info, noise.shape, frames)
        options = guider.model_options.setdefault("transformer_options", {})
        options[SAMPLED], options[SIZE] = len(noise), tuple(noise.shape[2:])
        part = sampled_part(guider.conds)
        options[PART] = part
        if part is not None:
            check_tile(part, model.get_attachment(STRENGTH) or (), guider.conds)
            cut_masks(guider.conds, part)
        with hints_follow_windows(guider.conds, part):
            return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
    return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)


def check_schedule(model: comfy.model_patcher.ModelPatcher, sampling: Any) -> None:
    """Refuse a model_sampling object that another node set after Load Temporal Layers."""
    stated: Stated | None = model.get_attachment(SCHEDULE)
    if stated is not None and sampling is not stated.sampling:
        raise ValueError(
            "A node behind Load Temporal Layers (ModelSamplingDiscrete or another ModelSampling node) replaced the "
            "noise schedule that the temporal layers were trained with: remove it, or connect it before Load Temporal "
            "Layers, which keeps the sampling lcm and sets the schedule of the layers."
        )


def check_sigmas(sigmas: Tensor) -> None:
    """Refuse sigmas that are not finite, are negative, or both rise and fall."""
    steps = sigmas.diff()
    if not sigmas.isfinite().all() or (sigmas < 0).any():
        raise ValueError(f"The sigmas {_short(sigmas)} contain a value that is negative or not a number: correct them.")
    if (steps > 0).any() and (steps < 0).any():
        raise ValueError(
            f"The sigmas {_short(sigmas)} both rise and fall: use falling sigmas for sampling, or rising sigmas for "
            "noise inversion."
        )


def check_flow(sampler: Any, sigmas: Tensor, from_noise: bool) -> None:
    """Refuse sigmas above 1, and samplers that do not work with zero terminal SNR."""
    if len(sigmas) < 2:
        raise ValueError("There is only one sigma, but a sampling step needs two: split the sigmas at another step.")
    first, last = float(sigmas[0]), float(sigmas[-1])
    if max(first, last) > 1 + TOLERANCE:
        raise ValueError(
            f"The sigmas start at {first:.4g} and end at {last:.4g}, but those of a zero-terminal-SNR model are "
            f"between 1 (noise) and 0 (image): {USE_ZERO_SNR}."
        )
    function = getattr(getattr(sampler, "sampler_function", None), "__name__", type(sampler).__name__)
    if first < last:
        check_inversion(sampler, function, first, last)
        return
    refused = NOT_FOR_FLOWS | NODES_NOT_FOR_FLOWS
    if function in refused:
        raise ValueError(
            f"The sampler {refused[function]} does not work with zero terminal SNR: "
            "use euler, or the DDIM Sampler (Zero-SNR)."
        )
    if from_noise and first < 1 - TOLERANCE:
        raise ValueError(
            f"The sigmas start at {first:.4g}, but sampling from noise with a zero-terminal-SNR model must start at "
            f"its last timestep (sigma 1): {USE_ZERO_SNR}."
        )
    if function in FOR_DISTILLED:
        notice(
            f"The sampler {FOR_DISTILLED[function]} loses detail unless the model is distilled for LCM. Use euler for "
            f"other models."
        )
    elif from_noise and last == 0:
        compare_with_trailing(sigmas)


def compare_with_trailing(sigmas: Tensor) -> None:
    """Warn if these sigmas lose more detail than trailing timesteps, for an exact network and normal data."""
    steps = min(len(sigmas) - 1, len(TRAILING))
    levels = ZeroSNRFlow(TRAILING).sigmas[TRAILING.trailing_timesteps(steps)].tolist()
    lost, usual = (1 - 2 * euler_spread(each) for each in (sigmas.tolist(), [*levels, 0.0]))
    if abs(lost) > max(0.02, 1.3 * usual):
        notice(
            f"With euler, these sigmas lose about {lost:.0%} of the detail; Trailing Timesteps loses {usual:.0%}. "
            "Use more steps or another scheduler."
        )


def check_inversion(sampler: Any, function: str, first: float, last: float) -> None:
    """Refuse noise inversion by an unsuitable sampler, from sigma 0, or up to sigma 1."""
    if function not in CAN_INVERT or getattr(sampler, "extra_options", {}).get("eta", 0.0):
        raise ValueError(
            "Rising sigmas (Flip Sigmas) mean noise inversion, which this sampler does not support: use euler, or the "
            "DDIM Sampler (Zero-SNR) with eta 0."
        )
    if first == 0:
        raise ValueError(
            "The rising sigmas start at 0, but noise inversion needs a start above 0: use 0.0001 as first sigma."
        )
    if last > 1 - TOLERANCE:
        raise ValueError(
            "The rising sigmas end at 1, where a zero-terminal-SNR model has pure noise and nothing of the image is "
            "left: end below 1, for example with Split Sigmas before Flip Sigmas."
        )


def check_native_start(sampling: Any, sigmas: Tensor) -> None:
    """Refuse sigmas of a native schedule that start in the lower half of the timesteps without an image."""
    if not isinstance(sampling, comfy.model_sampling.ModelSamplingDiscrete):
        return
    timestep = float(sampling.timestep(sigmas[:1])[0])
    if sigmas[0] > sigmas[-1] and timestep < sampling.num_timesteps / 2:
        raise ValueError(
            f"The sigmas start at {float(sigmas[0]):.4g}, but without an image they must start at pure noise, which is "
            f"{float(sampling.sigma_max):.4g} for this model: use BasicScheduler with denoise 1, or connect a latent "
            "with an image."
        )


def check_latent(noise: Tensor, latent_format: Any) -> None:
    """Refuse latents with another number of channels than the model's."""
    if noise.shape[1] != latent_format.latent_channels:
        raise ValueError(
            f"The latents have {noise.shape[1]} channels, but the model works on {latent_format.latent_channels}: "
            "encode the images with the VAE of this checkpoint."
        )


def check_tile(part: VideoPart, settings: Sequence[Setting], conds: dict[str, list]) -> None:
    """Refuse areas, boxes and a strength mask of the whole picture if only a tile of it is sampled."""
    if part.tile is None:
        return
    entries = [entry for each in conds.values() for entry in each]
    found = {
        "Conditioning (Set Area) does": any("area" in entry for entry in entries),
        "GLIGEN Textbox Apply does": any("gligen" in entry for entry in entries),
        "The mask of Temporal Layer Strength does": any(setting.mask is not None for setting in settings),
    }
    for what, is_used in found.items():
        if is_used:
            raise ValueError(
                f"{what} not work with tiles: set tile of Super-Resolution Conditioning to 0, or remove it."
            )


def check_context_windows(handler: Any, info: LayersInfo, videos: int) -> None:
    """Refuse Context Windows over several videos, along another dimension than frames, or longer than allowed."""
    if handler is None or not hasattr(handler, "context_length"):
        return
    if videos > 1:
        raise ValueError(
            f"Context Windows would mix the {videos} videos of the batch: set frames of Load Temporal Layers to 0 for "
            "one long video, or make the videos one by one."
        )
    if handler.dim != 0:
        raise ValueError(
            f"Context Windows has dim {handler.dim}, but the frames of these latents are dimension 0: use Context "
            "Windows (Manual) with dim 0."
        )
    if handler.context_length < 2:
        raise ValueError(
            "A context window of 1 frame is not a video: set context_length of Context Windows to 2 or more."
        )
    causal = getattr(handler, "causal_window_fix", False)
    if causal and info.max_frames and handler.context_length + 1 > info.max_frames:
        raise ValueError(
            f"With causal_window_fix, context windows of {handler.context_length} frames get one more, but these "
            f"temporal layers allow at most {info.max_frames} frames: switch causal_window_fix off."
        )
    if causal and not info.conditioning_channels:
        notice(
            f"With causal_window_fix, context windows after the first have {handler.context_length + 1} frames, which "
            f"changes the motion of these layers ({info.family}): switch causal_window_fix off."
        )


def check_cache(cache: Any, handler: Any) -> None:
    """Refuse EasyCache with Context Windows. It compares each call of the model with the one before."""
    if handler is not None and getattr(cache, "name", "") == "EasyCache":
        raise ValueError(
            "EasyCache would mix up the windows of Context Windows: use LazyCache, which compares whole videos."
        )


def _short(sigmas: Tensor) -> str:
    values = [f"{value:.4g}" for value in sigmas.tolist()]
    return ", ".join(values if len(values) <= 8 else [*values[:4], "...", *values[-3:]])
