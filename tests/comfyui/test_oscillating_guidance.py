"""Oscillating Guidance: the weight of every step, with own and stock samplers."""

import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_custom_sampler import BasicGuider, CFGGuider, DualCFGGuider
from emu_video.diffusion.guidance import emu_guidance, oscillating_guidance
from emu_video.host.guider import EmuVideoGuider
from emu_video.host.oscillating_guidance import step_of
from emu_video.host.sampling import trailing_sigmas
from emu_video.nodes.sampling import EmuVideoSampler, OscillatingGuidance
from emu_video.tests.comfyui import tiny


def test_the_papers_weights():
    weights = [oscillating_guidance(step, 15.0, 1.0, 3) for step in range(8)]
    assert weights == [15, 15, 15, 1, 15, 1, 15, 1]
    assert [oscillating_guidance(step, 15.0, 1.0, 0) for step in range(3)] == [1, 15, 1]


def test_a_step_is_found_by_its_sigma():
    sigmas = torch.tensor([1.0, 0.7, 0.4, 0.1, 0.0])
    assert [step_of(float(sigma), sigmas) for sigma in sigmas[:-1]] == [0, 1, 2, 3]
    assert step_of(0.5, sigmas) == 1 and step_of(0.05, sigmas) == 3 and step_of(2.0, sigmas) == 0


def test_a_step_of_noise_inversion_is_found_by_its_sigma():
    sigmas = torch.tensor([0.1, 0.4, 0.7, 0.9])
    assert [step_of(float(sigma), sigmas) for sigma in sigmas[:-1]] == [0, 1, 2]


def test_a_step_is_found_on_a_device_without_float64(monkeypatch):
    def refused(*_):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    monkeypatch.setattr(torch.Tensor, "double", refused)
    assert step_of(0.4, torch.tensor([1.0, 0.7, 0.4, 0.1, 0.0])) == 2


def conds():
    known = tiny.first_frame_known()
    return tiny.text(1, known_frames=known), tiny.text(2, known_frames=known), tiny.text(2)


def seen_weights(monkeypatch, guider_class, sample):
    weights, predict = [], guider_class.predict_noise

    def noted(self, *args, **options):
        weights.append(self.cfg)
        return predict(self, *args, **options)

    monkeypatch.setattr(guider_class, "predict_noise", noted)
    sample()
    return weights


def test_weights_of_every_step_in_own_and_stock_samplers(video_model, monkeypatch):
    (model,) = OscillatingGuidance.execute(video_model, 1.5, 2).args
    expected = [6.0, 6.0, 1.5, 6.0, 1.5]
    latent = {"samples": torch.zeros(4, *tiny.LATENT)}

    def own():
        EmuVideoSampler.execute(model, *conds(), latent, 0, 5, 6.0, 2.0, 0.0, 0.0)

    def stock():
        tiny.sample(model, steps=5, cfg=6.0, positive=conds()[0], negative=conds()[2])

    assert seen_weights(monkeypatch, EmuVideoGuider, own) == expected
    assert seen_weights(monkeypatch, comfy.samplers.CFGGuider, stock) == expected


def test_weights_that_are_equal_change_nothing(video_model):
    (model,) = OscillatingGuidance.execute(video_model, 3.0, 1).args
    latent = {"samples": torch.zeros(4, *tiny.LATENT)}
    one, other, different = (
        EmuVideoSampler.execute(each, *conds(), latent, 0, 3, weight, 2.0, 0.0, 0.0).args[0]["samples"]
        for each, weight in ((model, 3.0), (video_model, 3.0), (model, 5.0))
    )
    assert torch.equal(one, other) and not torch.allclose(one, different)


def test_only_the_text_weight_of_equation_1_alternates(video_model, monkeypatch):
    (model,) = OscillatingGuidance.execute(video_model, 1.5, 0).args
    used = []

    def noted(uncond, image, full, image_guidance, text_guidance):
        used.append((image_guidance, text_guidance))
        return emu_guidance(uncond, image, full, image_guidance, text_guidance)

    monkeypatch.setattr("emu_video.host.guider.emu_guidance", noted)
    EmuVideoSampler.execute(model, *conds(), {"samples": torch.zeros(4, *tiny.LATENT)}, 0, 3, 6.0, 2.0, 0.0, 0.0)
    assert used == [(2.0, 1.5), (2.0, 6.0), (2.0, 1.5)]


def test_a_second_node_replaces_the_first(video_model, monkeypatch):
    first = OscillatingGuidance.execute(video_model, 1.0, 0).args[0]
    second = OscillatingGuidance.execute(first, 2.0, 0).args[0]
    latent = {"samples": torch.zeros(4, *tiny.LATENT)}
    for model, expected in ((second, [2.0, 6.0]), (first, [1.0, 6.0]), (video_model, [6.0, 6.0])):
        weights = seen_weights(
            monkeypatch,
            EmuVideoGuider,
            lambda model=model: EmuVideoSampler.execute(model, *conds(), latent, 0, 2, 6.0, 2.0, 0.0, 0.0),
        )
        monkeypatch.undo()
        assert weights == expected


def test_guiders_without_one_weight_are_refused(video_model):
    (model,) = OscillatingGuidance.execute(video_model, 2.0, 0).args
    positive, image_only, negative = conds()
    sigmas, noise = trailing_sigmas(model, 2), torch.randn(4, *tiny.LATENT)
    euler = comfy.samplers.sampler_object("euler")

    def sample(guider):
        return guider.sample(noise, torch.zeros_like(noise), euler, sigmas, disable_pbar=True, seed=0)

    for guider in (
        BasicGuider.execute(model, positive).args[0],
        DualCFGGuider.execute(model, positive, image_only, negative, 7.0, 2.0, "regular").args[0],
    ):
        name = type(guider).__name__
        with pytest.raises(ValueError, match=f"this one .{name}. lacks: use KSampler, CFG Guider, Emu Video Sampler"):
            sample(guider)
    assert sample(CFGGuider.execute(model, positive, image_only, 7.0).args[0]).isfinite().all()


def test_a_weight_that_is_no_number_is_refused(video_model):
    with pytest.raises(ValueError, match="low"):
        OscillatingGuidance.execute(video_model, float("nan"), 0)
