"""The learned weights of timesteps."""

import torch
from emu_video.training.timestep_weights import TimestepWeights


def test_all_timesteps_count_equally():
    weights, generator = TimestepWeights(1000), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(weights.parameters(), 0.05)

    def usual(t: torch.Tensor) -> torch.Tensor:
        return 0.05 + (t / 1000) ** 3

    for _ in range(400):
        t = torch.randint(0, 1000, (256,), generator=generator)
        optimiser.zero_grad()
        weights(usual(t) * (0.5 + torch.rand(256, generator=generator)), t).mean().backward()
        optimiser.step()
    t = torch.arange(1000)
    error = usual(t).requires_grad_()
    (gradient,) = torch.autograd.grad(weights(error, t).sum(), error)
    assert (gradient * error - 1).abs().max() < 0.2
