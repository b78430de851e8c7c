"""DDIM, exact at zero terminal SNR."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .schedule import Schedule, eps_from_v, x0_from_eps, x0_from_v


@torch.no_grad()
def ddim(
    model: Callable[[Tensor, int], Tensor],
    x: Tensor,
    schedule: Schedule,
    timesteps: Sequence[int],
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    callback: Callable[[int, Tensor, Tensor], None] | None = None,
    prediction: str = "v",
) -> Tensor:
    """Denoise x, unit Gaussian noise when timesteps start at N-1, to x0 (Song et al. 2021, equation 12).

    `model(x_t, t)` returns v (or eps), guidance included; `timesteps` descend and the last step goes to x0;
    `callback(step, x0, x_t)` sees each step's estimate. Noise for eta > 0 is drawn on the generator's device.
    """
    for step, t in enumerate(timesteps):
        output = model(x, t)
        if prediction == "v":
            x0, eps = x0_from_v(x, output, t, schedule), eps_from_v(x, output, t, schedule)
        elif prediction == "eps":
            x0, eps = x0_from_eps(x, output, t, schedule), output
        else:
            raise ValueError(f"Unknown prediction '{prediction}': use 'v' or 'eps'.")
        if callback is not None:
            callback(step, x0, x)
        if step + 1 == len(timesteps):
            return x0
        x = _step_to(timesteps[step + 1], t, x0, eps, schedule, eta, generator)
    return x


def _step_to(
    t_next: int,
    t: int,
    x0: Tensor,
    eps: Tensor,
    schedule: Schedule,
    eta: float,
    generator: torch.Generator | None,
) -> Tensor:
    a, a_next = schedule.alphas_cumprod[t].item(), schedule.alphas_cumprod[t_next].item()
    fresh = eta * ((1 - a_next) / (1 - a) * (1 - a / a_next)) ** 0.5
    x = a_next**0.5 * x0 + (1 - a_next - fresh**2) ** 0.5 * eps
    if fresh:
        device = generator.device if generator is not None else x.device
        x = x + fresh * torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
    return x
