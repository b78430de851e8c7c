"""Variance-preserving noise schedule with zero terminal SNR, and conversions between its prediction types.

Notation: x_t = alpha_t x0 + sigma_t eps, alpha_t = sqrt(alphas_cumprod[t]), alpha_t^2 + sigma_t^2 = 1,
v_t = alpha_t eps - sigma_t x0 (Salimans & Ho 2022). At zero SNR alpha = 0, so x_T = eps and v_T = -x0.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor


def betas(schedule: str = "scaled_linear", start: float = 0.00085, end: float = 0.012, steps: int = 1000) -> Tensor:
    """Return betas, float64 [steps]. "linear" is linear in beta, "scaled_linear" (Stable Diffusion) in sqrt(beta)."""
    if schedule == "linear":
        return torch.linspace(start, end, steps, dtype=torch.float64)
    if schedule == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
    raise ValueError(f"Unknown beta schedule '{schedule}': use 'linear' or 'scaled_linear'.")


def zero_terminal_snr(alphas_cumprod: Tensor) -> Tensor:
    """Rescale alphas_cumprod so that the last value is exactly 0 and the first is unchanged (Lin et al. 2023, algorithm
    1)."""
    alpha = alphas_cumprod.to(torch.float64).sqrt()
    first, last = alpha[0], alpha[-1]
    rescaled = ((alpha - last) * first / (first - last)) ** 2
    rescaled[0], rescaled[-1] = alphas_cumprod[0], 0.0
    return rescaled


def trailing_timesteps(total: int, steps: int) -> list[int]:
    """Return `steps` evenly spaced timesteps from total - 1 downwards (Lin et al. 2023, section 3.3)."""
    if not 1 <= steps <= total:
        raise ValueError(f"Steps must be between 1 and {total}, got {steps}.")
    return [round(total - i * total / steps) - 1 for i in range(steps)]


def euler_spread(levels: Sequence[float], spread: float = 0.5) -> float:
    """Return the standard deviation of the samples that Euler's method makes with an exact network.

    levels: shares of noise s in x = (1 - s) x0 + s eps, falling from 1. spread: standard deviation of the data, which
    is assumed normal. Exact sampling returns `spread`; too large steps return less.
    """
    scale = 1.0
    for s, s_next in itertools.pairwise(levels):
        denoised = spread**2 * (1 - s) / (spread**2 * (1 - s) ** 2 + s**2)
        scale *= 1 + (1 - denoised) / s * (s_next - s)
    return abs(scale)


class Schedule:
    """Variance-preserving noise schedule of N timesteps, from 0 (clean) to N-1 (noise).

    `alphas_cumprod`: float64 [N] on the CPU.
    """

    def __init__(self, alphas_cumprod: Tensor):
        self.alphas_cumprod = alphas_cumprod.detach().to("cpu", torch.float64)
        self._alpha = self.alphas_cumprod.sqrt()
        self._sigma = (1 - self.alphas_cumprod).sqrt()

    @classmethod
    def from_betas(
        cls,
        schedule: str = "scaled_linear",
        start: float = 0.00085,
        end: float = 0.012,
        steps: int = 1000,
        zero_terminal_snr: bool = True,
    ) -> Schedule:
        native = cls(torch.cumprod(1 - betas(schedule, start, end, steps), dim=0))
        return native.rescaled() if zero_terminal_snr else native

    def rescaled(self) -> Schedule:
        """Return this schedule rescaled to zero terminal SNR."""
        return Schedule(zero_terminal_snr(self.alphas_cumprod))

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    @property
    def zero_snr(self) -> bool:
        return self.alphas_cumprod[-1].item() == 0.0

    def alpha(self, t: int | Tensor) -> Tensor:
        """Return the signal scale sqrt(alphas_cumprod) at t, float64, in t's shape."""
        return self._alpha[_index(t)]

    def sigma(self, t: int | Tensor) -> Tensor:
        """Return the noise scale sqrt(1 - alphas_cumprod) at t, float64, in t's shape."""
        return self._sigma[_index(t)]

    def trailing_timesteps(self, steps: int) -> list[int]:
        return trailing_timesteps(len(self), steps)


def add_noise(x0: Tensor, noise: Tensor, t: int | Tensor, schedule: Schedule) -> Tensor:
    """Return x_t. Here and below t is one timestep, or one per item of the first dimension."""
    alpha, sigma = _scales(t, schedule, x0)
    return alpha * x0 + sigma * noise


def v_target(x0: Tensor, noise: Tensor, t: int | Tensor, schedule: Schedule) -> Tensor:
    alpha, sigma = _scales(t, schedule, x0)
    return alpha * noise - sigma * x0


def x0_from_v(x_t: Tensor, v: Tensor, t: int | Tensor, schedule: Schedule) -> Tensor:
    alpha, sigma = _scales(t, schedule, x_t)
    return alpha * x_t - sigma * v


def eps_from_v(x_t: Tensor, v: Tensor, t: int | Tensor, schedule: Schedule) -> Tensor:
    alpha, sigma = _scales(t, schedule, x_t)
    return sigma * x_t + alpha * v


def x0_from_eps(x_t: Tensor, eps: Tensor, t: int | Tensor, schedule: Schedule) -> Tensor:
    """Return x0. Raises ValueError where alpha is 0, because x_t is then pure noise."""
    alpha, sigma = _scales(t, schedule, x_t)
    if not alpha.all():
        raise ValueError("An eps-prediction model cannot be used at zero SNR: use v-prediction or the native schedule.")
    return (x_t - sigma * eps) / alpha


def _index(t: int | Tensor) -> int | Tensor:
    return t.cpu() if isinstance(t, Tensor) else t


def _scales(t: int | Tensor, schedule: Schedule, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return alpha and sigma in like's dtype and device, with trailing dimensions to broadcast over it."""

    def fit(scale: Tensor) -> Tensor:
        return scale.to(like.device, like.dtype).reshape(scale.shape + (1,) * (like.ndim - scale.ndim))

    return fit(schedule.alpha(t)), fit(schedule.sigma(t))
