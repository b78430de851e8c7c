"""MODELs whose network is a plain function, so that what a sampler must give is known."""

from __future__ import annotations

from collections.abc import Callable

import comfy.model_patcher
import comfy.samplers
import torch
from emu_video.diffusion.schedule import Schedule
from emu_video.host.guards import guard
from emu_video.host.schedule import set_schedule
from emu_video.tests.comfyui.tiny import LATENT, UNET, TinyConfig, text
from torch import Tensor

BETAS = {"schedule": "scaled_linear", "start": 0.00085, "end": 0.012, "steps": 1000}
SCALE = TinyConfig.latent_format().scale_factor


class StandIn(torch.nn.Module):
    """A UNet's interface around `function(x_vp, t)`."""

    dtype = torch.float32

    def __init__(self, function: Callable[[Tensor, int], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x, timesteps, context=None, control=None, transformer_options=None, **conds):
        return self.function(x, int(timesteps[0]))


def bare(function: Callable[[Tensor, int], Tensor]) -> comfy.model_patcher.ModelPatcher:
    """A MODEL without temporal layers, as a checkpoint loader gives it."""
    config = TinyConfig(UNET | {"disable_unet_model_creation": True})
    model = config.get_model({}, device=torch.device("cpu"))
    model.diffusion_model = StandIn(function)
    return comfy.model_patcher.CoreModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


def scheduled(function, prediction="v", zero_terminal_snr=True) -> comfy.model_patcher.ModelPatcher:
    model = bare(function)
    set_schedule(model, prediction, BETAS, zero_terminal_snr)
    guard(model)
    return model


def network(x: Tensor, t: int) -> Tensor:
    """A smooth, non-linear v."""
    neighbours = x.roll(1, -1) - 0.5 * x.roll(1, -2) + 0.3 * x.flip(1)
    return torch.tanh(0.7 * neighbours + 0.2 * torch.sin(torch.tensor(t / 100, dtype=x.dtype)))


def gaussian_denoiser(schedule: Schedule, mean: float, spread: float, prediction: str):
    """The perfect network for data whose values are normal with this mean and standard deviation."""

    def function(x: Tensor, t: int) -> Tensor:
        alpha, sigma = schedule.alpha(t).item(), schedule.sigma(t).item()
        x0 = mean + spread**2 * alpha / (alpha**2 * spread**2 + sigma**2) * (x - alpha * mean)
        eps = (x - alpha * x0) / sigma
        return eps if prediction == "eps" else alpha * eps - sigma * x0

    return function


def noise_of(frames: int = 2, seed: int = 0, size: int = 8) -> Tensor:
    shape = (frames, LATENT[0], size, size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def run(model, noise: Tensor, sampler, sigmas: Tensor, latent: Tensor | None = None, seed: int = 3) -> Tensor:
    """What SamplerCustom does, without guidance; the result is in the network's scale."""
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(text(1), text(2))
    latent = torch.zeros_like(noise) if latent is None else latent
    return guider.sample(noise, latent, sampler, sigmas, disable_pbar=True, seed=seed) * SCALE


def stock_sigmas(model, scheduler: str, steps: int) -> Tensor:
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)
