"""CFG hooks of other nodes (pre-CFG, CFG and post-CFG functions) at a zero-terminal-SNR schedule.

ComfyUI gives hooks the noisy latent x and its sigma. Most hooks use only estimates of x0. Some expect x = x0 + sigma
eps, but `schedule.ZeroSNRFlow` uses a flow. Such hooks get converted x and sigma, or are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any

import torch
from torch import Tensor

from .notices import notice

CFG, PRE_CFG, POST_CFG = "sampler_cfg_function", "sampler_pre_cfg_function", "sampler_post_cfg_function"
LARGEST = 4518.76  # ComfyUI's sigma of the last timestep at zero terminal SNR, where the exact one is infinite
NOISE_OVER_SIGNAL = ("RescaleCFG", "TCFG")  # node classes whose hooks are correct with x0 + sigma eps
ESTIMATES_ONLY = (
    "APG", "CFGNorm", "CFGZeroStar", "FreSca", "LatentApplyOperationCFG", "Mahiro", "PerpNeg",
    "PerturbedAttentionGuidance", "RenormCFG", "SkipLayerGuidanceDiT", "SkipLayerGuidanceDiTSimple",
    "TemporalScoreRescaling", "VideoLinearCFGGuidance", "VideoTriangleCFGGuidance",
)  # fmt: skip
ONE_LATENT = ("RenormCFG", "TemporalScoreRescaling")  # node classes whose hooks stop at more than one latent
REFUSED = {
    "SelfAttentionGuidance": "Self-Attention Guidance does not work with zero terminal SNR, because it adds a blurred "
    "image to the noise of another schedule: use PerturbedAttentionGuidance",
    "EpsilonScaling": "Epsilon Scaling does not work with zero terminal SNR, because it divides the noise, and the "
    "last timestep is pure noise: remove the node",
}


def node_of(function: Callable | None) -> str:
    """Return the name of the node class that defined a hook, "" when unknown."""
    return getattr(function, "__qualname__", "").split(".")[0]


def hooks(model_options: dict[str, Any]) -> list[Callable]:
    """Return all CFG hooks of a MODEL's options."""
    one = [model_options[CFG]] if CFG in model_options else []
    return [*model_options.get(PRE_CFG, []), *one, *model_options.get(POST_CFG, [])]


def call_frame_by_frame(model_options: dict[str, Any]) -> None:
    """Wrap hooks that support only one latent, in place, so that they are called once for each frame."""
    if CFG in model_options and node_of(model_options[CFG]) in ONE_LATENT:
        model_options[CFG] = frame_by_frame(model_options[CFG])
    if POST_CFG in model_options:
        model_options[POST_CFG] = [
            frame_by_frame(function) if node_of(function) in ONE_LATENT else function
            for function in model_options[POST_CFG]
        ]


def frame_by_frame(function: Callable[[dict[str, Any]], Tensor]) -> Callable[[dict[str, Any]], Tensor]:
    """Return a CFG or post-CFG function that calls `function` for each latent of the batch."""

    def call(args: dict[str, Any]) -> Tensor:
        tensors = {key: value for key, value in args.items() if isinstance(value, Tensor)}
        frames = zip(*(value.split(1) for value in tensors.values()), strict=True)
        return torch.cat([function({**args, **dict(zip(tensors, frame, strict=True))}) for frame in frames])

    call.__qualname__ = function.__qualname__
    return call


def adapt_hooks(model_options: dict[str, Any]) -> None:
    """Adapt hooks to zero terminal SNR, in place. Raises ValueError for hooks that cannot be adapted."""
    for function in hooks(model_options):
        node = node_of(function)
        if node in REFUSED:
            raise ValueError(f"{REFUSED[node]}.")
        if node not in NOISE_OVER_SIGNAL + ESTIMATES_ONLY and reads_sigma(function):
            notice(
                f"The guidance of {node} reads sigma, which starts at 1 in zero-terminal-SNR models instead of about "
                f"15: compare the result with and without this node."
            )
    if CFG in model_options and node_of(model_options[CFG]) in NOISE_OVER_SIGNAL:
        model_options[CFG] = with_noise_over_signal(model_options[CFG])
    if PRE_CFG in model_options:
        model_options[PRE_CFG] = [
            pre_with_noise_over_signal(function) if node_of(function) in NOISE_OVER_SIGNAL else function
            for function in model_options[PRE_CFG]
        ]


def reads_sigma(function: Callable) -> bool:
    """Return whether a hook's code, or a function inside it, uses sigma or timestep."""
    return _names_sigma(getattr(function, "__code__", None))


def with_noise_over_signal(function: Callable[[dict[str, Any]], Tensor]) -> Callable[[dict[str, Any]], Tensor]:
    """Return a CFG function that calls `function` with x = x0 + sigma eps."""

    def call(args: dict[str, Any]) -> Tensor:
        x = args["input"]
        noisy, sigma = noise_over_signal(x, args["sigma"])
        changed = {
            "input": noisy, "sigma": sigma, "timestep": sigma,
            "cond": noisy - args["cond_denoised"], "uncond": noisy - args["uncond_denoised"],
        }  # fmt: skip
        x0 = noisy - function({**args, **changed})
        return x - x0.to(x.dtype)

    call.__qualname__ = function.__qualname__
    return call


def pre_with_noise_over_signal(function: Callable) -> Callable:
    """Return a pre-CFG function that calls `function` with x = x0 + sigma eps."""

    def call(args: dict[str, Any]) -> list[Tensor]:
        x = args["input"]
        noisy, sigma = noise_over_signal(x, args["sigma"])
        return [out.to(x.dtype) for out in function({**args, "input": noisy, "sigma": sigma, "timestep": sigma})]

    call.__qualname__ = function.__qualname__
    return call


def noise_over_signal(x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Return (x0 + sigma eps, sigma) for x = (1 - s) x0 + s eps, in float64 where the device has it."""
    dtype = torch.float64 if x.device.type in ("cpu", "cuda") else torch.float32
    s = s.to(dtype)
    sigma = (s / (1 - s).clamp_min(1e-12)).clamp_max(LARGEST)
    return x.to(dtype) * (1 + sigma).reshape(-1, *(1,) * (x.ndim - 1)), sigma


def _names_sigma(code: CodeType | None) -> bool:
    if code is None:
        return False
    inner = any(_names_sigma(const) for const in code.co_consts if isinstance(const, CodeType))
    return inner or any(const in ("sigma", "timestep") for const in code.co_consts if isinstance(const, str))
