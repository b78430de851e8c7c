"""DDIM as ComfyUI SAMPLER and SIGMAS, and the whole video step in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from torch import Tensor

from ..diffusion.sampler import ddim_step
from ..diffusion.schedule import trailing_timesteps
from .guider import EmuVideoGuider
from .notices import notice
from .schedule import signal_and_noise
from .values import check_finite
from .videos import cut_mask, sampled_part


@torch.no_grad()
def sample_ddim(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    *,
    extra_args: dict[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], None] | None = None,
    disable: bool | None = None,
    eta: float = 0.0,
    batch_index: Sequence[int] | None = None,
) -> Tensor:
    """Sample with DDIM, in ComfyUI's sampler form, any model whose x is a mix of x0 and eps.

    sigmas: [steps + 1], falling, or with eta 0 rising from above 0 (noise inversion). batch_index: number of
    each frame, as in a LATENT. A frame gets the same fresh noise in every window. Noise is drawn on the CPU, so a seed
    gives the same result on every device.
    """
    extra_args = extra_args or {}
    sampling = model.inner_model.inner_model.model_sampling
    # The seed itself has made the initial noise.
    generator = torch.Generator().manual_seed(((extra_args.get("seed") or 0) + 1) % 2**64)

    def draw(x: Tensor) -> Tensor:
        if batch_index is None:
            return comfy.sample.prepare_noise_inner(x, generator)
        # A generator for each step, because a window draws noise for all frames up to its last one.
        of_step = torch.Generator().manual_seed(int(torch.randint(2**63 - 1, (), generator=generator)))
        return comfy.sample.prepare_noise_inner(x, of_step, batch_index)

    scales = [signal_and_noise(sampling, sigma) for sigma in sigmas.tolist()]
    for step in comfy.utils.model_trange(len(sigmas) - 1, disable=disable):
        (a, b), (a_next, b_next) = scales[step], scales[step + 1]
        x0 = model(x, sigmas[step] * x.new_ones(len(x)), **extra_args)
        if callback is not None:
            sigma = sigmas[step]
            callback({"x": x, "i": step, "sigma": sigma, "sigma_hat": sigma, "denoised": x0})
        if b_next == 0:
            return x0
        eps = (x - a * x0) / b
        norm, norm_next = a * a + b * b, a_next * a_next + b_next * b_next
        x_vp = ddim_step(x0, eps, a * a / norm, a_next * a_next / norm_next, eta=eta, draw=draw)
        x = norm_next**0.5 * x_vp
    return x


def ddim_sampler(eta: float, batch_index: Sequence[int] | None = None) -> comfy.samplers.KSAMPLER:
    """Return DDIM as a SAMPLER. eta: 0..1. batch_index: of the LATENT, see `sample_ddim`."""
    check_finite(eta=eta)
    return comfy.samplers.KSAMPLER(sample_ddim, extra_options={"eta": eta, "batch_index": batch_index})


def trailing_sigmas(model: comfy.model_patcher.ModelPatcher, steps: int) -> Tensor:
    """Return the MODEL's sigmas at `steps` trailing timesteps and a final 0, [steps + 1], on the CPU."""
    sampling: Any = model.get_model_object("model_sampling")
    table = sampling.sigmas.cpu()  # a loaded MODEL has them on its device
    return torch.cat((table[trailing_timesteps(len(table), steps)], table.new_zeros(1)))


def preview_callback(model: comfy.model_patcher.ModelPatcher, steps: int) -> Callable[..., None]:
    """Return ComfyUI's progress callback, whose preview shows the next frame at each step."""
    show = latent_preview.prepare_callback(model, steps)

    def callback(step: int, x0: Tensor, x: Tensor, total_steps: int) -> None:
        frame = step % len(x0)
        show(step, x0[frame : frame + 1], x, total_steps)

    return callback


def sample(
    guider: EmuVideoGuider,
    latent: dict[str, Any],
    seed: int,
    steps: int,
    eta: float,
    *,
    shows_progress: bool = True,
) -> dict[str, Any]:
    """Sample a LATENT with trailing timesteps and DDIM; other entries of the LATENT are kept.

    A noise mask of the whole video is cut to the window and tile that the conditionings are for.
    """
    model = guider.model_patcher
    samples = comfy.sample.fix_empty_latent_channels(
        model,
        latent["samples"],
        latent.get("downscale_ratio_spacial"),
    )
    batch_index, noise_mask = latent.get("batch_index"), latent.get("noise_mask")
    part = sampled_part(guider.original_conds)
    if noise_mask is None:
        if samples.any():
            notice(
                "Emu Video Sampler starts from pure noise, so the video in its latent is lost. For a second pass use "
                "KSampler with denoise below 1."
            )
    elif part is not None:
        noise_mask = cut_mask(noise_mask, part)[:, None]
    samples = guider.sample(
        comfy.sample.prepare_noise(samples, seed, batch_index),
        samples,
        ddim_sampler(eta, batch_index),
        trailing_sigmas(model, steps),
        denoise_mask=noise_mask,
        callback=preview_callback(model, steps) if shows_progress else None,
        disable_pbar=not (shows_progress and comfy.utils.PROGRESS_BAR_ENABLED),
        seed=seed,
    )
    kept = {key: value for key, value in latent.items() if not key.startswith("downscale_ratio")}
    return {**kept, "samples": samples.to(comfy.model_management.intermediate_device())}
