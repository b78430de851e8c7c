"""Oscillating guidance on a MODEL: each sampling step gets its own guidance weight."""

from __future__ import annotations

from functools import partial
from typing import Any

import comfy.model_patcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP
from torch import Tensor

from ..diffusion.guidance import oscillating_guidance
from .values import check_finite

KEY = "emu_video_oscillating_guidance"


def with_oscillating_guidance(
    model: comfy.model_patcher.ModelPatcher, low: float, constant_steps: int
) -> comfy.model_patcher.ModelPatcher:
    """Return a clone whose sampling alternates between the sampler's own guidance weight and `low`.

    The weight is the guider's `cfg`: the text weight of Emu Video Guider and Emu Video Sampler.
    """
    check_finite(low=low)
    clone = model.clone()
    clone.remove_wrappers_with_key(WrappersMP.PREDICT_NOISE, KEY)
    clone.add_wrapper_with_key(
        WrappersMP.PREDICT_NOISE, KEY, partial(predict_with_own_weight, low=low, constant_steps=constant_steps)
    )
    return clone


def predict_with_own_weight(
    executor: WrapperExecutor,
    x: Tensor,
    timestep: Tensor,
    model_options: dict[str, Any],
    seed: int | None = None,
    *,
    low: float,
    constant_steps: int,
) -> Tensor:
    """Call the guider's prediction with the weight of the present step, then restore its own weight.

    Raises:
        ValueError: for a guider without a negative conditioning (Basic Guider), and for one with two weights (Dual CFG
            Guider).
    """
    guider: Any = executor.class_obj
    if "negative" not in guider.conds or hasattr(guider, "cfg1"):
        raise ValueError(
            f"Oscillating Guidance needs a guider with one cfg and a negative conditioning, which this one "
            f"({type(guider).__name__}) lacks: use KSampler, CFG Guider, Emu Video Sampler or Emu Video Guider."
        )
    high = guider.cfg
    step = step_of(float(timestep.flatten()[0]), model_options["transformer_options"]["sample_sigmas"])
    guider.cfg = oscillating_guidance(step, high, low, constant_steps)
    try:
        return executor(x, timestep, model_options, seed)
    finally:
        guider.cfg = high


def step_of(sigma: float, sigmas: Tensor) -> int:
    """Return the number of the step that evaluates the model at `sigma`; sigmas: [steps + 1], falling or rising."""
    *starts, last = sigmas.tolist()  # float64, which some devices (MPS) lack
    if starts[0] < last:
        started = [start <= sigma * (1 + 1e-5) for start in starts]
    else:
        started = [start >= sigma * (1 - 1e-5) for start in starts]
    return max(0, sum(started) - 1)
