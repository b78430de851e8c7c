"""What injected layers compute, and that the checkpoint they hang on does not notice."""

from __future__ import annotations

import dataclasses

import comfy.model_management
import comfy.model_patcher
import pytest
import torch
from emu_video.host.injection import KEY, inject, layers_info, without_layers
from emu_video.host.schedule import native_schedule, set_schedule
from emu_video.temporal_layers.attach import attach, detach
from emu_video.temporal_layers.layers import TemporalLayers
from emu_video.tests.comfyui.tiny import (
    FRAMES,
    LATENT,
    checkpoint,
    first_frame_known,
    sample,
    temporal,
    text,
    weights_hash,
    with_temporal_layers,
)


def test_equals_layers_attached_by_hand(model):
    """One call through ComfyUI, cond and uncond in one batch, against the two halves through the bare UNet."""
    state_dict, info = temporal(model)
    x = torch.randn((FRAMES, *LATENT))
    known = first_frame_known()
    seen = {}

    def one_call(apply_model, arguments):
        x, timestep, conds = arguments["input"], arguments["timestep"], arguments["c"]
        assert len(x) == 2 * FRAMES
        sampling = video.get_model_object("model_sampling")
        seen["input"] = torch.cat((sampling.calculate_input(timestep, x), conds["c_concat"]), dim=1)
        seen["t"], seen["context"] = sampling.timestep(timestep).float(), conds["c_crossattn"]
        return apply_model(x, timestep, **conds)

    video = inject(model, state_dict, info, "layers.safetensors")
    video.set_model_unet_function_wrapper(one_call)
    denoised = []
    sample(
        video,
        steps=1,
        cfg=1.5,
        noise=x,
        positive=text(1, known_frames=known),
        negative=text(2, known_frames=known),
        callback=lambda step, x0, x, steps: denoised.append(x0),
    )

    layers = TemporalLayers(info.anchors, info.conditioning_channels)
    layers.load_state_dict(state_dict)
    layers.frames = FRAMES
    unet = model.model.diffusion_model
    attach(unet, layers, owner=layers)
    halves = [unet(*half) for half in zip(*(seen[k].chunk(2) for k in ("input", "t", "context")), strict=True)]
    detach(unet, owner=layers)
    uncond, cond = (-half for half in halves)  # x0 = -v where nothing but noise is left
    torch.testing.assert_close(denoised[0], uncond + 1.5 * (cond - uncond), atol=1e-4, rtol=1e-4)


def test_fresh_layers_are_the_frame_by_frame_model_bit_for_bit(model):
    fresh = with_temporal_layers(model, fresh=True)
    plain = model.clone()
    plain.add_object_patch("model_sampling", fresh.get_model_object("model_sampling"))
    assert torch.equal(sample(plain), sample(fresh))
    assert not torch.equal(sample(fresh), sample(with_temporal_layers(model)))


def test_image_step_is_untouched_bit_for_bit(model):
    """The checkpoint's own MODEL gives the same image before and after layers were loaded and a video was made."""
    expected = sample(model, frames=1)
    video = with_temporal_layers(model)
    assert torch.equal(sample(model, frames=1), expected)
    sample(video)
    assert torch.equal(sample(model, frames=1), expected)
    with pytest.raises(ValueError, match="There is one latent, but temporal layers need a video"):
        sample(video, frames=1)


@pytest.mark.parametrize("order", ["image first", "video first", "interleaved"])
def test_two_clones_of_one_checkpoint(order):
    def alone():
        return sample(checkpoint()), sample(with_temporal_layers(checkpoint()))

    image, video = alone()
    base = checkpoint()
    injected = with_temporal_layers(base)
    turns = {"image first": "iivv", "video first": "vvii", "interleaved": "ivivvi"}[order]
    for turn in turns:
        made, expected = (sample(base), image) if turn == "i" else (sample(injected), video)
        assert torch.equal(made, expected)


def test_video_depends_on_all_its_frames_and_the_known_one(model):
    video = with_temporal_layers(model)
    noise = torch.randn((FRAMES, *LATENT))
    changed = noise.clone()
    changed[-1] += 1
    before, after = sample(video, noise=noise), sample(video, noise=changed)
    assert not torch.equal(before[0], after[0])
    known = [sample(video, positive=text(1, known_frames=first_frame_known(seed=seed))) for seed in (5, 6)]
    assert not torch.equal(known[0], known[1])


def test_cond_and_uncond_together_and_apart(model, monkeypatch):
    video = with_temporal_layers(model)
    known = first_frame_known()
    conds = {"positive": text(1, known_frames=known), "negative": text(2, known_frames=known)}
    together = sample(video, **conds)
    monkeypatch.setattr(comfy.model_patcher.ModelPatcher, "get_free_memory", lambda self, device: 0)
    batches = []

    def count(apply_model, arguments):
        batches.append(len(arguments["input"]))
        return apply_model(arguments["input"], arguments["timestep"], **arguments["c"])

    video.set_model_unet_function_wrapper(count)
    apart = sample(video, **conds)
    assert set(batches) == {FRAMES}
    torch.testing.assert_close(apart, together, atol=1e-4, rtol=1e-4)


def test_two_videos_in_one_batch(model):
    noise = torch.randn((2 * FRAMES, *LATENT))
    known = first_frame_known()
    video = with_temporal_layers(model)
    one_by_one = torch.cat([sample(video, noise=n, positive=text(1, known_frames=known)) for n in noise.split(FRAMES)])
    two = with_temporal_layers(model, frames=FRAMES)
    together = sample(two, noise=noise, positive=text(1, known_frames=known))
    torch.testing.assert_close(together, one_by_one, atol=1e-4, rtol=1e-4)
    as_one_video = sample(video, noise=noise, positive=text(1, known_frames=torch.cat((known, known))))
    assert (as_one_video - one_by_one).abs().max() > 1e-2


def test_frames_that_do_not_divide_the_batch(model):
    before = weights_hash(model)
    with pytest.raises(ValueError, match="has 6 frames.*4 frames of one video: set frames"):
        sample(with_temporal_layers(model, frames=4), frames=6)
    assert weights_hash(model) == before


def test_second_layers_replace_the_first(model):
    first, second = with_temporal_layers(model, seed=1), with_temporal_layers(model, seed=2)
    both = with_temporal_layers(first, seed=2)
    assert torch.equal(sample(both), sample(second))
    assert not torch.equal(sample(first), sample(second))
    assert len(both.get_additional_models()) == 1


def test_the_model_says_which_layers_it_carries(model):
    state_dict, info = temporal(model)
    assert layers_info(model) is None
    assert layers_info(inject(model, state_dict, info, "layers.safetensors").clone()) == info


def test_schedule_is_the_layers_and_the_checkpoint_keeps_its_own(model):
    video = with_temporal_layers(model)
    assert float(video.get_model_object("model_sampling").sigma_max) == 1.0
    assert 14 < float(model.get_model_object("model_sampling").sigma_max) < 15


def test_layers_of_another_base_are_refused(model):
    state_dict, info = temporal(model)
    with pytest.raises(ValueError, match="layers.safetensors.*for sdxl.*pocket.*use a sdxl"):
        inject(model, state_dict, dataclasses.replace(info, base="sdxl"), "layers.safetensors")


def test_inpainting_checkpoint_is_refused(model):
    state_dict, info = temporal(model)
    inpaint = checkpoint(in_channels=9)
    with pytest.raises(ValueError, match="9 channels.*inpainting.*use the plain"):
        inject(inpaint, state_dict, info, "layers.safetensors")


def test_temporal_weights_are_counted_and_loaded_as_a_model(model):
    video = with_temporal_layers(model)
    state_dict, _ = temporal(model)
    size = sum(weight.nbytes for weight in state_dict.values())
    (weights,) = video.get_nested_additional_models()
    assert weights.model_size() == size
    assert model.get_nested_additional_models() == []
    sample(video)
    loaded = [entry.model for entry in comfy.model_management.current_loaded_models]
    assert any(patcher.is_clone(weights) and patcher.loaded_size() == size for patcher in loaded if patcher)


def test_partly_offloaded_temporal_weights_give_the_same_video(model):
    """In low-VRAM mode ComfyUI leaves weights on the offload device and casts them when they are used."""
    video = with_temporal_layers(model)
    expected = sample(video)
    (weights,) = video.get_additional_models_with_key(KEY)
    weights.partially_unload(torch.device("cpu"), weights.model_size() // 2)
    assert torch.equal(sample(video), expected)


def test_a_model_for_another_device_has_layers_of_its_own(model):
    """ComfyUI makes one for each further GPU, and where torch.compile needs plain weights."""
    video = with_temporal_layers(model)
    other = video.deepclone_multigpu(torch.device("cpu"))
    (mine,), (its,) = (m.get_additional_models_with_key(KEY) for m in (video, other))
    assert its.model is not mine.model
    assert other.model is not video.model
    assert torch.equal(sample(other), sample(video))
    assert weights_hash(other) == weights_hash(model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_layers_follow_the_dtype_of_the_checkpoint(model, dtype):
    """Half precision files on a float32 checkpoint, and layers cast to the model's dtype."""
    state_dict, info = temporal(model)
    half = {key: weight.to(dtype) for key, weight in state_dict.items()}
    video = inject(model, half, info, "layers.safetensors")
    (weights,) = video.get_additional_models_with_key(KEY)
    assert {p.dtype for p in weights.model.parameters()} == {torch.float32}
    low = checkpoint(dtype=dtype)
    video = inject(low, state_dict, info, "layers.safetensors")
    (weights,) = video.get_additional_models_with_key(KEY)
    assert {p.dtype for p in weights.model.parameters()} == {dtype}
    assert sample(video, steps=1).isfinite().all()


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
def test_a_model_without_its_layers_is_the_checkpoint(model, video_model, zero_terminal_snr):
    prediction, betas = native_schedule(model)
    set_schedule(video_model, prediction, {**betas, "end": 0.02}, zero_terminal_snr)
    bare = without_layers(video_model)
    assert native_schedule(bare) == (prediction, betas)
    assert torch.equal(sample(bare), sample(model))
