"""DDIM, exact at zero terminal SNR."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .schedule import Schedule, eps_from_v, x0_from_eps, x0_from_v


def ddim_step(
    x0: Tensor,
    eps: Tensor,
    alpha_cumprod: float,
    next_alpha_cumprod: float,
    *,
    eta: float = 0.0,
    draw: Callable[[Tensor], Tensor] = torch.randn_like,
) -> Tensor:
    """Return x at the next noise level from estimates at the current one (Song et al. 2021, equations 12 and 16).

    eta 0 is deterministic and works in both directions, 1 is as random as DDPM. draw: returns unit Gaussian noise of
    the shape of its argument. Raises ValueError for a step towards more noise (DDIM inversion) with eta above 0, which
    is undefined.
    """
    if eta and next_alpha_cumprod < alpha_cumprod:
        raise ValueError(f"DDIM with eta {eta:g} cannot step towards more noise: use eta 0.")
    noise_variance = 1 - next_alpha_cumprod
    fresh_share = eta**2 * (1 - alpha_cumprod / next_alpha_cumprod) / (1 - alpha_cumprod) if eta else 0.0
    x = next_alpha_cumprod**0.5 * x0 + (noise_variance * (1 - fresh_share)) ** 0.5 * eps
    fresh = (noise_variance * fresh_share) ** 0.5
    if fresh:
        x = x + fresh * draw(x).to(x.device)
    return x


@torch.no_grad()
def ddim(
    model: Callable[[Tensor, int], Tensor],
    x: Tensor,
    schedule: Schedule,
    timesteps: Sequence[int],
    *,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    callback: Callable[[int, Tensor, Tensor], None] | None = None,
    prediction: str = "v",
) -> Tensor:
    """Return x0, sampled from x. If the timesteps start at N-1, x has to be unit Gaussian noise.

    `model(x_t, t)` returns v or eps after guidance. `timesteps` descend; the last step leads to x0.
    `callback(step, x0, x_t)` is called with the estimate of each step.
    """

    def draw(x: Tensor) -> Tensor:
        device = x.device if generator is None else generator.device
        return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype)

    levels = [schedule.alphas_cumprod[t].item() for t in timesteps] + [1.0]
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
        x = ddim_step(x0, eps, levels[step], levels[step + 1], eta=eta, draw=draw)
    return x
