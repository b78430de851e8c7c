"""Every sampler and every source of sigmas of ComfyUI at zero terminal SNR: right within 2 %, or refused.

The network is the exact one for normal data, so a right sampler ends at the data's mean and standard deviation.
"""

from __future__ import annotations

import comfy.samplers
import pytest
import torch
from emu_video.diffusion.schedule import Schedule, euler_spread
from emu_video.host.guards import FOR_DISTILLED, NODES_NOT_FOR_FLOWS, NOT_FOR_FLOWS
from emu_video.host.sampling import ddim_sampler
from emu_video.host.schedule import ZeroSNRFlow
from emu_video.tests.comfyui.core_nodes import call, calls, core_nodes, inputs, with_output
from emu_video.tests.comfyui.stand_in import SCALE, gaussian_denoiser, noise_of, run, scheduled, stock_sigmas

SCHEDULE = Schedule.from_betas()
EULER = comfy.samplers.sampler_object("euler")
MEAN = SPREAD = 0.5
STEPS, MANY = 200, 500
REFUSED = "use euler, or the DDIM Sampler"
OTHER_SIGMAS = "those of a zero-terminal-SNR model are|start at its last timestep|only one sigma"
SAMPLER_NODES = [name for name in with_output("SAMPLER") if name != "KSamplerSelect"]
FOR_VIDEO_MODELS = ("SamplerARVideo",)  # it takes latents of five dimensions only


@pytest.fixture(scope="module")
def model():
    with torch.inference_mode():
        return scheduled(gaussian_denoiser(SCHEDULE, MEAN, SPREAD, "v"))


def start():
    noise = noise_of(2, size=32)
    return (noise - noise.mean()) / noise.std()


def dense_sigmas(model):
    return stock_sigmas(model, "kl_optimal", STEPS)


def check(model, sampler, sigmas):
    result = run(model, start(), sampler, sigmas)
    assert result.mean().item() == pytest.approx(MEAN, abs=0.02 * MEAN)
    assert result.std().item() == pytest.approx(SPREAD, abs=0.02 * SPREAD)


def check_or_refused(model, sampler, sigmas):
    function = getattr(getattr(sampler, "sampler_function", None), "__name__", type(sampler).__name__)
    if function in NOT_FOR_FLOWS | NODES_NOT_FOR_FLOWS:
        with pytest.raises(ValueError, match=REFUSED):
            run(model, start(), sampler, sigmas)
    elif function not in FOR_DISTILLED:
        check(model, sampler, sigmas)


@pytest.mark.parametrize("name", comfy.samplers.SAMPLER_NAMES)
def test_samplers(model, name):
    check_or_refused(model, comfy.samplers.sampler_object(name), dense_sigmas(model))


@pytest.mark.parametrize("name", [name for name in SAMPLER_NODES if name not in FOR_VIDEO_MODELS])
def test_sampler_nodes(model, name):
    for arguments in calls(name, MODEL=model):
        check_or_refused(model, call(name, arguments), dense_sigmas(model))


def test_our_sampler(model):
    for eta in (0.0, 0.5, 1.0):
        check(model, ddim_sampler(eta), dense_sigmas(model))


@pytest.mark.parametrize("scheduler", comfy.samplers.SCHEDULER_NAMES)
def test_schedulers(model, scheduler):
    if scheduler == "ddim_uniform":
        with pytest.raises(ValueError, match="use the scheduler simple with denoise 1"):
            run(model, start(), EULER, stock_sigmas(model, scheduler, 20))
    else:
        check(model, EULER, stock_sigmas(model, scheduler, MANY))


def usual_loss(steps):
    """What few steps of Trailing Timesteps lose of the spread, and a little."""
    levels = ZeroSNRFlow(SCHEDULE).sigmas[SCHEDULE.trailing_timesteps(steps)].tolist()
    return 1.1 * (SPREAD - euler_spread([*levels, 0.0], SPREAD))


@pytest.mark.parametrize("name", [name for name in with_output("SIGMAS") if name != "FlipSigmas"])
def test_sources_of_sigmas(model, name, caplog):
    """Lists of few steps, which no sampler solves well, are reported."""
    given = {"MODEL": model, "SIGMAS": dense_sigmas(model), "sigmas": dense_sigmas(model), "step": 20, "denoise": 1.0}
    if name == "ManualSigmas":
        given = {"sigmas": "14.6, 5.0, 2.0, 1.0, 0.3, 0.0"}
    if "steps" in inputs(core_nodes()[name]) and name != "ExtendIntermediateSigmas":
        given["steps"] = min(MANY, inputs(core_nodes()[name])["steps"][1]["max"])
    for arguments in calls(name, **given):
        sigmas = call(name, arguments)
        caplog.clear()
        try:
            result = run(model, start(), EULER, sigmas)
        except ValueError as refusal:
            assert any(part in str(refusal) for part in OTHER_SIGMAS.split("|"))
            continue
        if sigmas[-1] == 0 and not caplog.messages:
            assert result.std().item() == pytest.approx(SPREAD, abs=max(0.02 * SPREAD, usual_loss(len(sigmas) - 1)))
            assert result.mean().item() == pytest.approx(MEAN, abs=0.02 * MEAN)


@pytest.mark.parametrize(
    "sigmas, message",
    [
        ([14.6, 5.0, 1.0, 0.0], "between 1 .noise. and 0"),
        ([1.0001, 0.5, 0.0], "between 1 .noise. and 0"),
        ([1.0, 0.2, 0.5, 0.0], "rise and fall"),
        ([float("nan"), 0.5, 0.0], "not a number"),
        ([1.0, 0.5, -0.1], "negative"),
        ([0.9, 0.5, 0.0], "start at its last timestep"),
        ([1.0], "only one sigma"),
    ],
)
def test_wrong_lists_are_refused(model, sigmas, message):
    with pytest.raises(ValueError, match=message):
        run(model, start(), EULER, torch.tensor(sigmas))


def test_few_steps_are_reported(model, caplog):
    run(model, start(), EULER, torch.tensor([1.0, 0.99, 0.98, 0.97, 0.0]))
    assert any("of the detail; Trailing Timesteps" in message for message in caplog.messages)
    caplog.clear()
    run(model, start(), EULER, stock_sigmas(model, "simple", 20))
    assert not caplog.messages


@pytest.mark.parametrize("steps", [5, 20, 100])
def test_spread_is_foretold(model, steps):
    sigmas = stock_sigmas(model, "normal", steps)
    assert run(model, start(), EULER, sigmas).std().item() == pytest.approx(euler_spread(sigmas.tolist()), abs=0.003)


# Noise inversion


@pytest.mark.parametrize("sampler", [EULER, ddim_sampler(0.0)], ids=["euler", "ddim"])
def test_inversion_and_back(model, sampler):
    falling = stock_sigmas(model, "kl_optimal", 100)[1:]
    rising = falling.flip(0).clone()
    rising[0] = 0.0001  # as Flip Sigmas does
    image = MEAN + SPREAD * start()
    none = torch.zeros_like(image)
    noise = run(model, none, sampler, rising, latent=image / SCALE)
    back = run(model, none, sampler, falling, latent=noise / SCALE)
    assert (back - image).norm() < 0.02 * image.norm()


@pytest.mark.parametrize(
    "sampler, last, message",
    [
        (comfy.samplers.sampler_object("euler_ancestral"), 0.9, "Rising sigmas"),
        (ddim_sampler(0.5), 0.9, "Rising sigmas"),
        (EULER, 1.0, "end below 1"),
    ],
)
def test_inversion_is_refused(model, sampler, last, message):
    with pytest.raises(ValueError, match=message):
        run(model, start(), sampler, torch.tensor([0.0001, 0.5, last]), latent=start())


def test_native_schedule_must_start_near_its_noise():
    model = scheduled(
        gaussian_denoiser(Schedule.from_betas(zero_terminal_snr=False), MEAN, SPREAD, "eps"), "eps", False
    )
    with pytest.raises(ValueError, match="pure noise, which is 14.61"):
        run(model, start(), EULER, torch.tensor([1.0, 0.5, 0.0]))
    assert run(model, start(), EULER, torch.tensor([1.0, 0.5, 0.0]), latent=start()).isfinite().all()
