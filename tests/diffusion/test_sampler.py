"""Our DDIM against the one of `diffusers`, and against what a perfect model must give."""

import pytest
import torch
from emu_video.diffusion.sampler import ddim
from emu_video.diffusion.schedule import Schedule, add_noise, betas, v_target

SCHEDULE = Schedule.from_betas()
SHAPE = (2, 4, 8, 8)


def gaussian(dtype=torch.float64, seed=0):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def network(x, t):
    """A smooth, non-linear stand-in for a v-network."""
    neighbours = x.roll(1, -1) - 0.5 * x.roll(1, -2) + 0.3 * x.flip(1)
    return torch.tanh(0.7 * neighbours + 0.2 * torch.sin(torch.tensor(t / 100, dtype=x.dtype)))


def ddim_of_diffusers(x, steps, eta, seed):
    schedulers = pytest.importorskip("diffusers.schedulers.scheduling_ddim")
    scheduler = schedulers.DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
    )
    if x.dtype == torch.float64:  # its own tables are float32
        scheduler.alphas_cumprod = torch.cumprod(1 - schedulers.rescale_zero_terminal_snr(betas()), dim=0)
        scheduler.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(seed)
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, int(t)), t, x, eta=eta, generator=generator).prev_sample
    return x


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-6), (torch.float32, 1e-4)])
@pytest.mark.parametrize("eta", [0.0, 0.5, 0.9999])  # at 1, diffusers takes the root of a rounding error: NaN
@pytest.mark.parametrize("steps", [10, 25, 50, 250])
def test_parity_with_diffusers(steps, eta, dtype, tolerance):
    noise, generator = gaussian(dtype), torch.Generator().manual_seed(5)
    ours = ddim(network, noise, SCHEDULE, SCHEDULE.trailing_timesteps(steps), eta=eta, generator=generator)
    error = (ours - ddim_of_diffusers(noise, steps, eta, seed=5)).abs().max().item()
    print(f"steps {steps} eta {eta} {dtype}: {error:.1e}")
    assert error < tolerance


@pytest.mark.parametrize("steps", [1, 10, 25, 250])
def test_full_noise_is_the_limit_of_almost_full_noise(steps):
    full, almost = (
        ddim(network, gaussian(), SCHEDULE, SCHEDULE.trailing_timesteps(steps), eta=eta, generator=generator)
        for eta, generator in ((e, torch.Generator().manual_seed(5)) for e in (1.0, 1 - 1e-9))
    )
    torch.testing.assert_close(full, almost, rtol=0, atol=1e-3)


@pytest.mark.parametrize("prediction", ["v", "eps"])
def test_a_model_that_knows_the_image_recovers_it(prediction):
    x0, noise = gaussian(seed=1), gaussian(seed=2)
    schedule = Schedule.from_betas(zero_terminal_snr=prediction == "v")

    def knowing(x, t):
        eps = (x - schedule.alpha(t) * x0) / schedule.sigma(t)
        return eps if prediction == "eps" else v_target(x0, eps, t, schedule)

    start = add_noise(x0, noise, 999, schedule)
    result = ddim(knowing, start, schedule, schedule.trailing_timesteps(20), prediction=prediction)
    torch.testing.assert_close(result, x0)


def test_callback_sees_every_step():
    seen = []
    ddim(
        network,
        gaussian(),
        SCHEDULE,
        SCHEDULE.trailing_timesteps(5),
        callback=lambda step, x0, x: seen.append((step, x0.shape, x.shape)),
    )
    assert seen == [(i, SHAPE, SHAPE) for i in range(5)]


def test_eps_is_refused_at_zero_snr_and_unknown_predictions_are_named():
    with pytest.raises(ValueError, match="use v-prediction or the native schedule"):
        ddim(network, gaussian(), SCHEDULE, [999], prediction="eps")
    with pytest.raises(ValueError, match="Unknown prediction 'x0'"):
        ddim(network, gaussian(), SCHEDULE, [999], prediction="x0")
