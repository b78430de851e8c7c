"""Public reports rebuilt on a small network: prompts, noise, masks, context windows. docs/field.md lists them."""

from __future__ import annotations

import importlib
from typing import Any

import comfy.sample
import pytest
import torch
from comfy.ldm.modules.attention import optimized_attention
from emu_video.diffusion.schedule import Schedule
from emu_video.nodes.schedules import PromptSchedule
from emu_video.tests.comfyui import tiny
from emu_video.tests.comfyui.core_nodes import core_nodes
from emu_video.tests.comfyui.narrow_clip import narrow_clip
from emu_video.tests.comfyui.stand_in import SCALE, gaussian_denoiser, noise_of, scheduled
from torch import Tensor

nodes: Any = importlib.import_module("nodes")  # ComfyUI's, not the pack's
FRAMES = 8
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def fresh(model: Any, channels: int = 0, frames: int = 0) -> Any:
    """Layers that mix no frames: each frame must then be what it is alone."""
    return tiny.with_temporal_layers(model, fresh=True, conditioning_channels=channels, frames=frames)


def trained(model: Any) -> Any:
    return tiny.with_temporal_layers(model, conditioning_channels=0)


def empty(frames: int = FRAMES) -> dict[str, Any]:
    return {"samples": torch.zeros(frames, *tiny.LATENT)}


def ksampler(model, latent, positive=None, negative=None, steps=2, cfg=2.0, denoise=1.0, seed=3) -> Tensor:
    positive, negative = positive or tiny.text(1), negative or tiny.text(2)
    (out,) = nodes.KSampler().sample(model, seed, steps, cfg, "euler", "simple", positive, negative, latent, denoise)
    return out["samples"]


def emu(model, latent, positive=None, negative=None, steps=2, text=2.0, image=1.5) -> Tensor:
    """Emu Video Sampler, with conditionings that know no frame."""
    positive, negative = positive or tiny.text(1), negative or tiny.text(2)
    return tiny.emu_sample(model, (positive, negative, negative), latent, steps, text, image)


SAMPLERS = {"KSampler": ksampler, "Emu Video Sampler": emu}
both_samplers = pytest.mark.parametrize("sample", SAMPLERS.values(), ids=SAMPLERS)


# Prompts


@both_samplers
def test_a_prompt_longer_than_the_negative_one(model, sample):
    """The video must not fall into two: guidance is that of the two prompts sampled apart. One step is linear in it."""
    model, latent = trained(model), empty()
    long, short = tiny.text(1, length=154), tiny.text(2, length=77)
    apart = [ksampler(model, latent, text, text, steps=1, cfg=1.0) for text in (long, short)]
    expected = apart[1] + 2.0 * (apart[0] - apart[1])
    if sample is ksampler:
        made = ksampler(model, latent, long, short, steps=1, cfg=2.0)
    else:  # draws its noise from another seed
        noise = comfy.sample.prepare_noise(latent["samples"], 0)
        apart = [tiny.sample(model, FRAMES, 0, 1, 1.0, text, text, noise=noise) for text in (long, short)]
        expected = apart[1] + 2.0 * (apart[0] - apart[1])
        made = emu(model, latent, long, short, steps=1, text=2.0, image=1.5)
    torch.testing.assert_close(made, expected, rtol=1e-3, atol=1e-3)


def test_the_last_prompt_of_a_schedule_and_its_weight():
    """SDXL: both text encoders, the weight in brackets, a comma behind the last entry."""
    clip = narrow_clip("sdxl", 64)
    prompts = '"0": "a peacock, (ice:1.7)",\n"7": "a peacock, (lightning:1.7)",'
    ((text, options),) = PromptSchedule.execute(clip, prompts, FRAMES).args[0]
    for frame, prompt in ((0, "a peacock, (ice:1.7)"), (7, "a peacock, (lightning:1.7)")):
        ((expected, pooled),) = nodes.CLIPTextEncode().encode(clip, prompt)[0]
        assert torch.equal(text[frame], expected[0])
        assert torch.equal(options["pooled_output"][frame], pooled["pooled_output"][0])
    plain = nodes.CLIPTextEncode().encode(clip, "a peacock, lightning")[0][0][0]
    assert (text[7] - plain[0]).abs().max() > 1e-3
    assert all((text[i] - text[i + 1]).abs().max() > 1e-4 for i in range(FRAMES - 1))


# Noise


@both_samplers
@pytest.mark.parametrize("behaviour", ["fixed", "random"])
def test_batch_seed_behaviour(model, sample, behaviour):
    (latent,) = core_nodes()["LatentBatchSeedBehavior"].execute(empty(), behaviour).result
    video = sample(fresh(model), latent)
    same = torch.allclose(video[1:], video[:1].expand_as(video[1:]), **CLOSE)
    assert same == (behaviour == "fixed")


@both_samplers
def test_frames_keep_their_noise_in_a_longer_batch(model, sample):
    torch.testing.assert_close(sample(fresh(model), empty())[:4], sample(fresh(model), empty(4)), **CLOSE)


@both_samplers
def test_free_noise_shuffles_the_noise_of_the_first_window(model, sample):
    """Frames without a link between them: those of later windows are frames of the first one."""
    windowed = free_noise(fresh(model))
    video, plain = sample(windowed, empty()), sample(fresh(model), empty())
    torch.testing.assert_close(video[:4], plain[:4], **CLOSE)
    distance = torch.cdist(video[4:].flatten(1), video[:4].flatten(1))
    assert distance.min(dim=1).values.max() < 1e-2 < distance.median()


def free_noise(model: Any) -> Any:
    windows = core_nodes()["ContextWindowsManual"]
    made = windows.execute(model, 4, 2, "standard_static", 1, False, "pyramid", 0, True, causal_window_fix=False)
    return made.result[0]


def test_an_image_repeated_as_the_latent(model):
    """Image to video by Repeat Latent Batch and a low denoise: data of the right kind must stay data of that kind."""
    for prediction, zero in (("v", True), ("eps", False)):
        denoiser = gaussian_denoiser(Schedule.from_betas(zero_terminal_snr=zero), 0.5, 0.5, prediction)
        stand_in = scheduled(denoiser, prediction, zero)
        image = (0.5 + 0.5 * noise_of(1, 5, 64)) / SCALE
        (latent,) = nodes.RepeatLatentBatch().repeat({"samples": image}, 16)
        result = SCALE * ksampler(stand_in, latent, steps=150, cfg=1.0, denoise=0.6)
        assert result.mean().item() == pytest.approx(0.5, abs=0.01)
        assert result.std().item() == pytest.approx(0.5, abs=0.02)
        assert (result[0] - result[1]).abs().mean() > 0.05  # each frame has its own noise


def test_two_stages_with_leftover_noise(model):
    """KSampler (Advanced): stopping and going on gives what one run gives."""
    video_model = trained(model)

    def stage(latent, noise, start, end, leftover):
        return nodes.KSamplerAdvanced().sample(
            video_model, noise, 3, 6, 2.0, "euler", "simple", tiny.text(1), tiny.text(2), latent, start, end, leftover
        )[0]

    half = stage(empty(), "enable", 0, 3, "enable")
    both = stage(half, "disable", 3, 10000, "disable")["samples"]
    whole = stage(empty(), "enable", 0, 10000, "disable")["samples"]
    assert (half["samples"] - whole).abs().max() > 1e-2
    torch.testing.assert_close(both, whole, rtol=0, atol=1e-4)


# Masks


@both_samplers
@pytest.mark.parametrize("windowed", [False, True])
def test_every_frame_has_its_own_noise_mask(model, sample, windowed):
    content, mask = noise_of(FRAMES, 6), torch.zeros(FRAMES, 1, 64, 64)
    for frame in range(FRAMES):
        mask[frame, ..., 8 * frame : 8 * frame + 8] = 1.0
    (latent,) = nodes.SetLatentNoiseMask().set_mask({"samples": content}, mask)
    video_model = trained(model)
    made = sample(tiny.in_windows(video_model, 4, 2, "", causal=False) if windowed else video_model, latent)
    changed = (made - content).abs().amax(dim=(1, 2))
    for frame in range(FRAMES):
        kept = [column for column in range(8) if abs(column - frame) > 1]  # the mask is scaled to the latent
        assert changed[frame, kept].max() < 1e-4 and changed[frame, frame] > 1e-2


@both_samplers
def test_differential_diffusion(model, sample):
    """White is changed from the start, black never, grey in the later steps."""
    content = noise_of(FRAMES, 6)
    video_model = core_nodes()["DifferentialDiffusion"].execute(trained(model)).result[0]
    free = sample(trained(model), {"samples": content}, steps=4)

    def masked(value):
        mask = torch.full((FRAMES, 1, 8, 8), value)
        return sample(video_model, {"samples": content, "noise_mask": mask}, steps=4)

    torch.testing.assert_close(masked(1.0), free, **CLOSE)
    torch.testing.assert_close(masked(0.0), content, **CLOSE)
    grey = (masked(0.5) - content).abs().mean()
    assert 0.05 < grey < (free - content).abs().mean()


def test_inpaint_model_conditioning_on_a_checkpoint_without_its_channels(model, vae):
    """The known frames stay, and the node acts by its noise mask alone."""
    known = tiny.first_frame_known(FRAMES)
    video_model = tiny.with_temporal_layers(model)
    pixels, mask = torch.rand(FRAMES, 64, 64, 3), torch.zeros(FRAMES, 64, 64)
    mask[:, :, :32] = 1.0
    positive, negative = tiny.text(1, known_frames=known), tiny.text(2, known_frames=known)
    filled = nodes.InpaintModelConditioning().encode(positive, negative, pixels, vae, mask, True)
    made = ksampler(video_model, filled[2], filled[0], filled[1])
    torch.testing.assert_close(made, ksampler(video_model, filled[2], positive, negative), rtol=0, atol=0)
    torch.testing.assert_close(made[..., 5:], filled[2]["samples"][..., 5:], **CLOSE)


# Context windows


@pytest.mark.parametrize("causal", [True, False])
def test_moving_regions_in_context_windows(model, causal):
    mask = torch.zeros(FRAMES, 64, 64)
    for frame in range(FRAMES):
        mask[frame, :, : 8 * frame + 4] = 1.0
    (left,) = nodes.ConditioningSetMask().append(tiny.text(1), mask, "default", 1.0)
    (right,) = nodes.ConditioningSetMask().append(tiny.text(9), 1 - mask, "default", 0.8)
    whole = ksampler(fresh(model), empty(), left + right)
    windowed = ksampler(tiny.in_windows(fresh(model), 4, 2, "", causal), empty(), left + right)
    torch.testing.assert_close(windowed, whole, **CLOSE)
    (still,) = nodes.ConditioningSetMask().append(tiny.text(1), mask[:1], "default", 1.0)
    assert (ksampler(fresh(model), empty(), still + right) - whole).abs().max() > 1e-2


class ImagePromptPerFrame:
    """Cross-attention to one image per frame, as packs of image prompts write it: they ask which frames a call has by
    the option `ad_params`, with `sub_idxs` and `full_length`."""

    def __init__(self, frames: int):
        self.images = torch.randn(frames, 4, 16, generator=torch.Generator().manual_seed(6))

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any]) -> Tensor:
        heads, labels = extra_options["n_heads"], extra_options["cond_or_uncond"]
        images, clip = self.images, extra_options.get("ad_params")
        if clip is not None and clip["sub_idxs"] is not None:
            assert len(images) == clip["full_length"] and clip["context_length"] == len(clip["sub_idxs"])
            images = images[clip["sub_idxs"]]
        images = images[: len(q) // len(labels)]
        tokens = torch.cat([images * (label == 0) for label in labels])
        generator = torch.Generator().manual_seed(7)
        image_k, image_v = (tokens @ torch.randn(16, q.shape[-1], generator=generator) for _ in range(2))
        return optimized_attention(q, k, v, heads) + optimized_attention(q, image_k, image_v, heads)


@both_samplers
@pytest.mark.parametrize("causal", [True, False])
def test_an_image_prompt_per_frame_in_context_windows(model, sample, causal):
    model = fresh(model)
    model.set_model_attn2_replace(ImagePromptPerFrame(FRAMES), "middle", 0)
    whole = sample(model, empty())
    torch.testing.assert_close(sample(tiny.in_windows(model, 4, 2, "", causal), empty()), whole, **CLOSE)


# Batches


def test_rebatched_latents(model):
    """Single frames are refused; halves are two videos."""
    video_model = trained(model)
    for batch, refused in ((1, True), (4, False)):
        parts = core_nodes()["RebatchLatents"].execute([empty()], [batch]).result[0]
        assert len(parts) == FRAMES // batch
        if refused:
            with pytest.raises(ValueError, match="There is one latent, but temporal layers need a video"):
                ksampler(video_model, parts[0])
        else:
            assert ksampler(video_model, parts[1]).shape[0] == batch
