"""Guidance with two weights and the all-in-one sampler, on a small network with temporal layers."""

from types import SimpleNamespace

import comfy.model_management
import comfy.samplers
import comfy.utils
import latent_preview
import pytest
import torch
from comfy_extras.nodes_custom_sampler import Noise_RandomNoise, SamplerCustomAdvanced
from emu_video.diffusion.guidance import rescale_guidance
from emu_video.host.guider import EmuVideoGuider as Guider
from emu_video.host.videos import FRAMES as FRAMES_OF_A_VIDEO
from emu_video.nodes.sampling import DDIMSamplerZeroSNR, EmuVideoGuider, EmuVideoSampler, TrailingTimesteps
from emu_video.tests.comfyui import tiny
from emu_video.tests.comfyui.stand_in import SCALE, noise_of

from nodes import KSampler  # pyright: ignore[reportAttributeAccessIssue]  (ComfyUI's, not the pack's)

FRAMES = tiny.FRAMES


@pytest.fixture
def video_model(model):
    return tiny.with_temporal_layers(model)


def conditionings():
    """(text and image, image only, neither)"""
    known = tiny.first_frame_known()
    null = tiny.text(2, known_frames=known), tiny.text(2, known_frames=torch.zeros_like(known))
    return tiny.text(1, known_frames=known), *null


def empty(frames=FRAMES):
    return {"samples": torch.zeros(frames, *tiny.LATENT)}


def sample(model, seed=0, steps=2, text=7.5, image=2.0, rescale=0.0, eta=0.0, latent=None, conds=None):
    conds = conds or conditionings()
    latent = latent or empty()
    (result,) = EmuVideoSampler.execute(model, *conds, latent, seed, steps, text, image, rescale, eta).args
    return result["samples"]


def count_passes(model):
    """Frames that go through the UNet in each call, while sampling `model`."""
    frames, unet = [], model.model.diffusion_model
    forward = unet.forward

    def counted(x, *args, **kwargs):
        frames.append(len(x))
        return forward(x, *args, **kwargs)

    unet.forward = counted
    return frames


# Guidance


def test_limits_of_equation_1(video_model):
    full, image, uncond = conditionings()
    only = {name: sample(video_model, conds=(c, c, c)) for name, c in zip("fiu", (full, image, uncond), strict=True)}
    torch.testing.assert_close(sample(video_model, text=1.0, image=1.0), only["f"], rtol=0, atol=1e-4)
    torch.testing.assert_close(sample(video_model, text=0.0, image=1.0), only["i"], rtol=0, atol=1e-4)
    torch.testing.assert_close(sample(video_model, text=0.0, image=0.0), only["u"], rtol=0, atol=1e-4)
    assert (only["f"] - only["i"]).abs().max() > 1e-2 < (only["i"] - only["u"]).abs().max()


def test_equation_1_on_one_step(video_model):
    conds = conditionings()
    uncond, image, full = (sample(video_model, steps=1, conds=(c, c, c)) for c in reversed(conds))
    expected = uncond + 2.0 * (image - uncond) + 7.5 * (full - image)
    torch.testing.assert_close(sample(video_model, steps=1), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "text, image, rescale, passes", [(7.5, 2.0, 0.0, 3), (7.5, 1.0, 0.0, 2), (2.0, 2.0, 0.0, 2), (1.0, 1.0, 0.0, 1),
                                     (0.0, 0.0, 0.0, 1), (0.0, 0.0, 0.7, 2)]
)  # fmt: skip
def test_conditionings_without_weight_are_not_evaluated(video_model, text, image, rescale, passes):
    frames = count_passes(video_model)
    sample(video_model, text=text, image=image, rescale=rescale, steps=1)
    assert sum(frames) == passes * FRAMES


def test_equal_weights_are_stock_guidance(video_model):
    positive, _, negative = conditionings()
    (stock,) = KSampler().sample(video_model, 0, 4, 4.0, "euler", "simple", positive, negative, empty(), 1.0)
    ours = sample(video_model, steps=4, text=4.0, image=4.0)
    torch.testing.assert_close(ours * SCALE, stock["samples"] * SCALE, rtol=0, atol=1e-4)


def test_full_rescale_gives_the_first_estimate_the_conditional_spread(video_model):
    full = conditionings()[0]
    conditional = sample(video_model, steps=1, conds=(full, full, full))
    rescaled = sample(video_model, steps=1, rescale=1.0)
    assert sample(video_model, steps=1).std() > 1.2 * conditional.std()
    torch.testing.assert_close(rescaled.std(), conditional.std(), rtol=1e-3, atol=0)


def test_rescale_works_on_v_of_each_video():
    class Sampling:
        sigmas = None

    guider = Guider.__new__(Guider)
    guider.guidance_rescale = 0.7
    guider.model_patcher = SimpleNamespace(get_attachment={FRAMES_OF_A_VIDEO: 2}.get)
    guider.inner_model = type("Model", (), {"model_sampling": Sampling()})()
    sigma = 3.0  # noise over signal
    alpha, noise_scale = (1 + sigma**2) ** -0.5, sigma * (1 + sigma**2) ** -0.5
    x_vp, v_guided, v_full = noise_of(4, 0), 3 * noise_of(4, 1), noise_of(4, 2)
    x0, full = (alpha * x_vp - noise_scale * v for v in (v_guided, v_full))
    expected = alpha * x_vp - noise_scale * rescale_guidance(v_guided, v_full, 0.7, frames=2)
    torch.testing.assert_close(guider.rescale(x_vp / alpha, x0, full, sigma), expected)


def test_post_cfg_functions_see_and_change_the_estimate(video_model):
    changed, seen = video_model.clone(), []

    def function(args):
        seen.append(set(args))
        return torch.zeros_like(args["denoised"])

    changed.set_model_sampler_post_cfg_function(function)
    assert not sample(changed).any()
    assert {"denoised", "cond_denoised", "uncond_denoised", "sigma", "input", "model", "cond_scale"} <= seen[0]


# The sampler


def test_same_seed_same_video(video_model):
    first = sample(video_model, seed=1, eta=0.5)
    assert first.shape == (FRAMES, *tiny.LATENT) and first.isfinite().all()
    assert torch.equal(sample(video_model, seed=1, eta=0.5), first)
    assert not torch.allclose(sample(video_model, seed=2, eta=0.5), first)
    assert not torch.allclose(sample(video_model, seed=1, eta=0.0), first)


def test_largest_seed(video_model):
    assert sample(video_model, seed=0xFFFFFFFFFFFFFFFF, eta=1.0).isfinite().all()


def test_sampler_is_the_sum_of_its_parts(video_model):
    (guider,) = EmuVideoGuider.execute(video_model, *conditionings(), 7.5, 2.0, 0.7).args
    (sampler,), (sigmas,) = DDIMSamplerZeroSNR.execute(0.5).args, TrailingTimesteps.execute(video_model, 3).args
    parts, _ = SamplerCustomAdvanced.execute(Noise_RandomNoise(9), guider, sampler, sigmas, empty()).args
    whole = sample(video_model, seed=9, steps=3, rescale=0.7, eta=0.5)
    assert torch.equal(parts["samples"], whole)


def test_two_videos_in_one_batch_equal_each_alone(model):
    pair = tiny.with_temporal_layers(model, frames=FRAMES)
    latent = {**empty(2 * FRAMES), "batch_index": [*range(FRAMES)] * 2}
    both = sample(pair, latent=latent, rescale=0.5)
    alone = sample(pair, latent={**empty(), "batch_index": [*range(FRAMES)]}, rescale=0.5)
    torch.testing.assert_close(both, torch.cat((alone, alone)), rtol=0, atol=1e-3)


def test_noise_mask_keeps_what_it_covers(video_model):
    content = noise_of(FRAMES, 6)
    mask = torch.zeros(FRAMES, 1, 8, 8)
    mask[..., :4] = 1.0
    result = sample(video_model, latent={"samples": content, "noise_mask": mask})
    torch.testing.assert_close(result[..., 4:], content[..., 4:], rtol=0, atol=1e-5)
    assert not torch.allclose(result[..., :4], content[..., :4], atol=1e-2)


def test_other_entries_of_the_latent_are_kept(video_model):
    latent = {**empty(), "downscale_ratio_spacial": 8, "mine": 1}
    (result,) = EmuVideoSampler.execute(video_model, *conditionings(), latent, 0, 1, 7.5, 2.0, 0.0, 0.0).args
    assert result.keys() == {"samples", "mine"}


def test_progress_and_a_preview_that_moves(video_model, monkeypatch):
    shown, progress = [], []

    class Previewer:
        def decode_latent_to_preview_image(self, preview_format, x0):
            shown.append(x0)
            return ("JPEG", None, 512)

    monkeypatch.setattr(latent_preview, "get_previewer", lambda device, latent_format: Previewer())
    monkeypatch.setattr(
        comfy.utils, "PROGRESS_BAR_HOOK", lambda step, total, preview, **_: progress.append((step, total))
    )
    sample(video_model, steps=FRAMES)
    assert progress == [(step + 1, FRAMES) for step in range(FRAMES)]
    assert [x0.shape for x0 in shown] == [(1, *tiny.LATENT)] * FRAMES
    final = sample(video_model, steps=FRAMES) * SCALE
    torch.testing.assert_close(shown[FRAMES - 1][0], final[FRAMES - 1], rtol=0, atol=1e-4)


def test_interruption_stops_at_the_next_step(video_model, monkeypatch):
    steps = []

    def hook(step, total, preview, **_):
        steps.append(step)
        comfy.model_management.interrupt_current_processing()

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        sample(video_model, steps=5)
    assert steps == [1]
    monkeypatch.undo()
    assert sample(video_model).isfinite().all()


def test_a_checkpoint_without_temporal_layers_is_refused(model):
    with pytest.raises(ValueError, match="no temporal layers: connect the model output of Load Temporal Layers"):
        sample(model)


def test_stock_sampler_takes_the_conditionings(video_model):
    positive, _, negative = conditionings()
    (result,) = KSampler().sample(video_model, 0, 2, 3.0, "dpmpp_2m", "simple", positive, negative, empty(), 1.0)
    assert result["samples"].shape == (FRAMES, *tiny.LATENT) and result["samples"].isfinite().all()
    with pytest.raises(ValueError, match="use the scheduler simple"):
        KSampler().sample(video_model, 0, 2, 3.0, "euler", "ddim_uniform", positive, negative, empty(), 1.0)
