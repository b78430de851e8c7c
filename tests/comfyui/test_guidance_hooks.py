"""Guidance nodes of ComfyUI on the flow view: the same result as on ComfyUI's own zero-SNR schedule.

Both are one process, so a node that is right on one must agree on the other, up to the signal that ComfyUI leaves in
its last timestep.
"""

from __future__ import annotations

import comfy.model_sampling
import comfy.samplers
import pytest
import torch
from emu_video.host.cfg_hooks import adapt_hooks, noise_over_signal, reads_sigma
from emu_video.host.guards import guard
from emu_video.tests.comfyui.core_nodes import call, calls
from emu_video.tests.comfyui.stand_in import SCALE, bare, network, noise_of, scheduled
from emu_video.tests.comfyui.tiny import text

NODES = [
    "APG", "CFGNorm", "FreSca", "LatentApplyOperationCFG", "Mahiro", "RescaleCFG", "TCFG", "TemporalScoreRescaling",
    "VideoLinearCFGGuidance", "VideoTriangleCFGGuidance",
]  # fmt: skip
STRONG = {
    "FreSca": {"scale_high": 1.5, "freq_cutoff": 2},
    "APG": {"norm_threshold": 1.0},
    "TemporalScoreRescaling": {"tsr_k": 0.5},
}
TIMESTEPS = [999, 900, 700, 400, 150, 20]


def reads_text(model):
    """Make a stand-in network's answer depend on the text."""
    forward = model.model.diffusion_model.forward

    def with_text(x, timesteps, context=None, **more):
        pattern = context.mean(1)[:, : x.shape[1], None, None]
        return forward(x, timesteps, context, **more) + pattern + 0.2 * torch.tanh(pattern * x)

    model.model.diffusion_model.forward = with_text
    return model


class Native(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.V_PREDICTION):
    """ComfyUI's own schedule with zero terminal SNR."""


def on_flow():
    return reads_text(scheduled(network))


def on_native():
    model = reads_text(bare(network))
    model.add_object_patch("model_sampling", Native(zsnr=True))
    guard(model)  # for the hooks that ComfyUI runs on one latent only
    return model


def behind(name, model):
    sharpen = call("LatentOperationSharpen", next(calls("LatentOperationSharpen", sharpen_radius=2)))
    given = {"MODEL": model, "LATENT_OPERATION": sharpen, **STRONG.get(name, {})}
    return call(name, next(calls(name, **given)))


def run(model):
    sampling = model.get_model_object("model_sampling")
    sigmas = torch.cat((sampling.sigmas[TIMESTEPS], torch.zeros(1)))
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(text(1), text(2))
    guider.set_cfg(5.0)
    noise = noise_of(3, size=16)
    euler = comfy.samplers.sampler_object("euler")
    return guider.sample(noise, torch.zeros_like(noise), euler, sigmas, disable_pbar=True, seed=3) * SCALE


@pytest.mark.parametrize("name", NODES)
def test_flow_and_native_schedule_agree(name):
    flow, native = run(behind(name, on_flow())), run(behind(name, on_native()))
    assert (flow - native).norm() < 5e-3 * native.norm()
    without = run(on_flow())
    assert (without - run(on_native())).norm() < 5e-3 * without.norm()
    assert (flow - without).norm() > 2e-2 * without.norm()


def test_noise_over_signal():
    x0, eps = noise_of(3, 1).double(), noise_of(3, 2).double()
    s = torch.tensor([0.1, 0.5, 0.99]).double()
    k = s.reshape(-1, 1, 1, 1)
    noisy, sigma = noise_over_signal((1 - k) * x0 + k * eps, s)
    torch.testing.assert_close(noisy, x0 + sigma.reshape(-1, 1, 1, 1) * eps)
    noisy, sigma = noise_over_signal(eps, torch.ones(3))
    assert noisy.isfinite().all() and sigma.max() == pytest.approx(4518.76)


def test_unknown_hooks_that_read_sigma_are_reported(caplog):
    def plain(args):
        return args["uncond"] + args["cond_scale"] * (args["cond"] - args["uncond"])

    def reading(args):
        return args["uncond"] * args["sigma"].mean()

    assert not reads_sigma(plain) and reads_sigma(reading)
    for function, count in ((plain, 0), (reading, 1)):
        adapt_hooks({"sampler_cfg_function": function})
        assert len(caplog.messages) == count
