"""The noise schedule as model_sampling, DDIM as a sampler, and what they refuse."""

import comfy.model_sampling
import comfy.samplers
import pytest
import torch
from emu_video.diffusion.sampler import ddim
from emu_video.diffusion.schedule import Schedule
from emu_video.host.sampling import ddim_sampler, trailing_sigmas
from emu_video.host.schedule import ZeroSNRFlow
from emu_video.nodes.sampling import DDIMSamplerZeroSNR, TrailingTimesteps, ZeroTerminalSNRSchedule
from emu_video.tests.comfyui import tiny
from emu_video.tests.comfyui.stand_in import (
    BETAS,
    SCALE,
    bare,
    gaussian_denoiser,
    network,
    noise_of,
    run,
    scheduled,
    stock_sigmas,
)

SCHEDULE = Schedule.from_betas()
EULER = comfy.samplers.sampler_object("euler")


def reference(noise, steps, eta=0.0, generator=None):
    return ddim(network, noise, SCHEDULE, SCHEDULE.trailing_timesteps(steps), eta=eta, generator=generator)


def standard_noise(size=32):
    noise = noise_of(2, size=size)
    return (noise - noise.mean()) / noise.std()


# The schedule


def test_the_last_timestep_is_pure_noise():
    flow = ZeroSNRFlow(SCHEDULE)
    last, noise, image, v = flow.sigma_max.reshape(1), *(noise_of(1, seed) for seed in range(3))
    assert last == 1.0
    assert torch.equal(flow.noise_scaling(last, noise, image), noise)
    assert torch.equal(flow.calculate_input(last, noise), noise)
    assert torch.equal(flow.calculate_denoised(last, v, noise), -v)


def test_flow_view_is_the_same_process():
    flow, t = ZeroSNRFlow(SCHEDULE), torch.tensor([0, 1, 250, 700, 998])
    s = flow.sigmas[t]
    image, noise = noise_of(5, 0), noise_of(5, 1)
    alpha, sigma = (scale(t).float().reshape(5, 1, 1, 1) for scale in (SCHEDULE.alpha, SCHEDULE.sigma))
    x = flow.noise_scaling(s, noise, image)
    torch.testing.assert_close(flow.calculate_input(s, x), alpha * image + sigma * noise)
    torch.testing.assert_close(flow.calculate_denoised(s, alpha * noise - sigma * image, x), image)


def test_timesteps_and_sigmas_are_inverse():
    flow = ZeroSNRFlow(SCHEDULE)
    assert torch.equal(flow.timestep(flow.sigmas), torch.arange(1000))
    torch.testing.assert_close(flow.sigma(torch.arange(1000)), flow.sigmas)
    assert flow.percent_to_sigma(0.0) == 1.0 and flow.percent_to_sigma(1.0) == 0.0
    assert flow.percent_to_sigma(0.5) == pytest.approx(flow.sigmas[499:501].mean().item())


@pytest.mark.parametrize("prediction, zero", [("v", True), ("v", False), ("eps", False)])
def test_a_schedule_samples_the_data_it_is_right_for(prediction, zero):
    schedule = Schedule.from_betas(zero_terminal_snr=zero)
    model = scheduled(gaussian_denoiser(schedule, 0.5, 0.5, prediction), prediction, zero)
    result = run(model, standard_noise(), EULER, trailing_sigmas(model, 100))
    # Endless steps would give a spread of 0.5; the native schedule loses some of the mean in any number of them.
    assert result.std().item() == pytest.approx(0.482 if zero else 0.484, abs=0.002)
    assert result.mean().item() == pytest.approx(0.5 if zero else 0.483, abs=0.002)


@pytest.mark.parametrize(
    "prediction, stock",
    [("eps", comfy.model_sampling.EPS), ("v", comfy.model_sampling.V_PREDICTION)],
)
def test_native_schedule_is_comfyui_own(prediction, stock):
    class Own(comfy.model_sampling.ModelSamplingDiscrete, stock):
        pass

    native = scheduled(network, prediction, zero_terminal_snr=False)
    own = bare(network)
    own.add_object_patch("model_sampling", Own())
    sigmas = stock_sigmas(own, "simple", 5)
    assert torch.equal(stock_sigmas(native, "simple", 5), sigmas)
    assert torch.equal(run(native, noise_of(), EULER, sigmas), run(own, noise_of(), EULER, sigmas))


# Parity


@pytest.mark.parametrize("steps", [10, 25, 50, 250])
def test_stock_euler_with_simple_is_ddim(steps):
    model, noise = scheduled(network), noise_of()
    error = (run(model, noise, EULER, stock_sigmas(model, "simple", steps)) - reference(noise.double(), steps)).abs()
    print(f"euler + simple, {steps} steps: {error.max():.1e}")
    assert error.max() < 1e-5


@pytest.mark.parametrize("steps", [10, 50])
def test_ddim_sampler_is_ddim(steps):
    model, noise = scheduled(network), noise_of()
    error = (
        run(model, noise, ddim_sampler(0.0), trailing_sigmas(model, steps)) - reference(noise.double(), steps)
    ).abs()
    print(f"DDIM, {steps} steps: {error.max():.1e}")
    assert error.max() < 1e-5


def test_ddim_sampler_with_eta():
    model, noise, generator = scheduled(network), noise_of(), torch.Generator().manual_seed(3 + 1)
    result = run(model, noise, ddim_sampler(0.7), trailing_sigmas(model, 20), seed=3)
    torch.testing.assert_close(result, reference(noise, 20, 0.7, generator), rtol=0, atol=1e-4)


@pytest.mark.parametrize("prediction, zero", [("v", True), ("eps", False)])
def test_ddim_sampler_with_eta_samples_the_data(prediction, zero):
    schedule = Schedule.from_betas(zero_terminal_snr=zero)
    model = scheduled(gaussian_denoiser(schedule, 0.5, 0.5, prediction), prediction, zero)
    result = run(model, standard_noise(), ddim_sampler(1.0), trailing_sigmas(model, 100))
    assert result.std().item() == pytest.approx(0.47, abs=0.01)
    assert result.mean().item() == pytest.approx(0.5, abs=0.02)


def test_ddim_sampler_stops_where_the_sigmas_stop():
    model, noise = scheduled(network), noise_of()
    sigmas = trailing_sigmas(model, 10)
    half = run(model, noise, ddim_sampler(0.0), sigmas[:6]) / SCALE
    both = run(model, torch.zeros_like(noise), ddim_sampler(0.0), sigmas[5:], latent=half)
    torch.testing.assert_close(both, run(model, noise, ddim_sampler(0.0), sigmas), rtol=0, atol=1e-5)


# Refusals


def test_a_latent_with_content_may_start_lower():
    model = scheduled(network)
    sigmas = stock_sigmas(model, "simple", 10)[5:]
    assert run(model, noise_of(), EULER, sigmas, latent=noise_of(seed=1)).isfinite().all()
    with pytest.raises(ValueError, match="must start at its last timestep"):
        run(model, noise_of(), EULER, sigmas)


def test_native_schedules_may_use_any_scheduler_and_sampler():
    model = scheduled(network, "eps", zero_terminal_snr=False)
    ddpm = comfy.samplers.sampler_object("ddpm")
    assert run(model, noise_of(), ddpm, stock_sigmas(model, "ddim_uniform", 5)).isfinite().all()


def test_eps_with_zero_snr_is_refused():
    with pytest.raises(
        ValueError, match="eps-prediction model cannot use zero terminal SNR.*Turn zero_terminal_snr off"
    ):
        scheduled(network, "eps", zero_terminal_snr=True)
    with pytest.raises(ValueError, match="Unknown prediction 'x0'"):
        scheduled(network, "x0")


def test_frames_that_do_not_divide_the_batch_are_refused(model):
    model = tiny.with_temporal_layers(model)
    known = tiny.text(1, known_frames=tiny.first_frame_known(4))
    for frames in (6, 8):
        with pytest.raises(ValueError, match=f"conditioning has 4 frames, but a video of the latent has {frames}"):
            tiny.sample(model, frames=frames, positive=known, negative=known)


def test_a_latent_of_another_size_is_refused(model):
    model = tiny.with_temporal_layers(model)
    known = tiny.text(1, known_frames=tiny.first_frame_known(4))
    with pytest.raises(ValueError, match="latents of the known frames are 8x8, but those of the video are 16x16"):
        tiny.sample(model, noise=noise_of(4, size=16), positive=known, negative=known)


# Nodes


def test_schedule_node_takes_the_checkpoint_own_prediction_and_betas(model):
    (scheduled_model,) = ZeroTerminalSNRSchedule.execute(model, "auto", True).args
    flow = scheduled_model.get_model_object("model_sampling")
    assert isinstance(flow, ZeroSNRFlow)
    assert torch.equal(flow.sigmas, ZeroSNRFlow(Schedule.from_betas(**BETAS)).sigmas)
    assert not isinstance(model.get_model_object("model_sampling"), ZeroSNRFlow)
    (again,) = ZeroTerminalSNRSchedule.execute(scheduled_model, "auto", False).args
    assert isinstance(again.get_model_object("model_sampling"), comfy.model_sampling.V_PREDICTION)


def test_schedule_node_refuses_eps_checkpoints_and_flow_models(model):
    with pytest.raises(ValueError, match="eps-prediction model cannot use zero terminal SNR"):
        ZeroTerminalSNRSchedule.execute(model, "eps", True)

    class Flow(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
        pass

    model.add_object_patch("model_sampling", Flow())
    with pytest.raises(ValueError, match="This model has no betas"):
        ZeroTerminalSNRSchedule.execute(model, "auto", True)


def test_schedule_node_replaces_an_earlier_schedule(model):
    for _ in range(2):
        (model,) = ZeroTerminalSNRSchedule.execute(model, "v", True).args
    (model,) = ZeroTerminalSNRSchedule.execute(model, "v", False).args
    assert sum(len(w) for w in model.wrappers["outer_sample"].values()) == 1
    sigmas = stock_sigmas(model, "ddim_uniform", 2)
    assert run(model, noise_of(), EULER, sigmas).isfinite().all()


def test_parts_are_standard_sampler_and_sigmas():
    model, noise = scheduled(network), noise_of()
    (sampler,), (sigmas,) = DDIMSamplerZeroSNR.execute(0.0).args, TrailingTimesteps.execute(model, 10).args
    assert isinstance(sampler, comfy.samplers.KSAMPLER)
    assert len(sigmas) == 11 and sigmas[0] == 1.0 and sigmas[-1] == 0.0
    torch.testing.assert_close(sigmas, stock_sigmas(model, "simple", 10))
    torch.testing.assert_close(run(model, noise, sampler, sigmas), reference(noise, 10), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="Steps must be between 1 and 1000"):
        TrailingTimesteps.execute(model, 0)
    with pytest.raises(ValueError, match="steps of Trailing Timesteps is the number 1001, above the limit of 1000"):
        TrailingTimesteps.execute(model, 1001)
