"""Temporal Layer Strength over steps, frames and places."""

import gc
import importlib
import logging
import weakref
from typing import Any

import comfy.model_management
import pytest
import torch
from emu_video.host.injection import KEY
from emu_video.host.layer_settings import with_strength
from emu_video.host.strength import Setting
from emu_video.nodes.layer_settings import TemporalLayerStrength
from emu_video.temporal_layers.modules.attention import TemporalAttention
from emu_video.temporal_layers.modules.base import blend, resized
from emu_video.temporal_layers.modules.transformer import TemporalTransformer
from emu_video.tests.comfyui import tiny
from emu_video.tests.comfyui.tiny import FRAMES, sample

nodes: Any = importlib.import_module("nodes")  # ComfyUI's, not the pack's


def strength(model, attention=1.0, convolution=1.0, **more):
    return TemporalLayerStrength.execute(model, attention, convolution, **more).args[0]


def test_equal_numbers_for_all_frames_are_one_number(video_model):
    half = sample(strength(video_model, 0.5, 0.5))
    assert torch.equal(sample(strength(video_model, per_frame=[0.5] * FRAMES)), half)
    for mask in (torch.full((1, 64, 64), 0.5), torch.full((FRAMES, 8, 8), 0.5)):
        torch.testing.assert_close(sample(strength(video_model, mask=mask)), half)
    both = strength(video_model, 0.5, 0.5, per_frame=[0.5] * FRAMES, mask=torch.full((1, 8, 8), 2.0))
    torch.testing.assert_close(sample(both), half)


def test_frames_of_windows_keep_their_numbers(video_model):
    """Each window gets the numbers of its own frames, as many as it holds."""
    numbers = [0.0, 0.3, 1.0, 1.5, 2.0, 0.7, 0.1]
    seen = []
    layers = video_model.get_additional_models_with_key(KEY)[0].model
    model = tiny.in_windows(strength(video_model, per_frame=numbers), length=4, overlap=1, retain="", causal=False)
    model.add_wrapper("diffusion_model", lambda executor, *args: (seen.append(layers.strength), executor(*args))[1])
    sample(model, frames=7, steps=1)
    assert [[round(x, 3) for x in each["attention"].tolist()] for each in seen] == [numbers[:4], numbers[3:]]


@pytest.mark.parametrize("part", ["area", "mask bounds"])
def test_a_mask_is_not_squeezed_into_a_part_of_the_picture(video_model, part):
    masked, noise = strength(video_model, mask=torch.ones(16, 16)), torch.randn(FRAMES, 4, 16, 16)
    left = torch.zeros(1, 16, 16)
    left[..., :8] = 1.0
    if part == "area":
        (positive,) = nodes.ConditioningSetArea().append(tiny.text(1), 64, 128, 0, 0, 1.0)
    else:
        (positive,) = nodes.ConditioningSetMask().append(tiny.text(1), left, part, 1.0)
    with pytest.raises(ValueError, match="is for the whole picture, but the model is called with a part of it, by"):
        sample(masked, positive=positive, noise=noise)
    assert sample(video_model, positive=positive, noise=noise).isfinite().all()
    (positive,) = nodes.ConditioningSetMask().append(tiny.text(1), left, "default", 1.0)
    assert sample(masked, positive=positive, noise=noise).isfinite().all()


def test_a_mask_acts_where_it_is():
    x, changed = torch.zeros(4, 2, 4, 4), torch.ones(4, 2, 4, 4)
    mask = torch.zeros(2, 1, 8, 8)
    mask[1, :, :, 4:] = 1.0
    out = blend(x, changed, mask)
    expected = torch.zeros(4, 2, 4, 4)
    expected[1::2, :, :, 2:] = 1.0
    assert torch.equal(out, expected)
    tokens = blend(x.flatten(2)[..., None], changed.flatten(2)[..., None], mask)
    assert torch.equal(tokens.reshape(expected.shape), expected)
    assert torch.equal(blend(torch.zeros(4, 3), torch.ones(4, 3), mask)[:, 0], torch.tensor([0.0, 0.5, 0.0, 0.5]))


@pytest.mark.parametrize("size", [(8, 16), (12, 8), (10, 16), (7, 9), (4, 16)])
def test_a_mask_is_laid_over_the_tokens_of_every_level(size):
    mask = torch.zeros(1, 1, *size)
    mask[..., : size[1] // 2] = 1.0
    height, width = size
    for _ in range(3):
        expected = torch.nn.functional.interpolate(mask, size=(height, width), mode="area")
        assert torch.equal(resized(mask, height * width, 1).reshape(expected.shape), expected)
        height, width = -(-height // 2), -(-width // 2)


@pytest.mark.parametrize("shape", [(64, 64), (1, 64, 64), (1, 1, 64, 64), (FRAMES, 1, 8, 8)])
def test_masks_of_two_to_four_dimensions(video_model, shape):
    torch.testing.assert_close(
        sample(strength(video_model, mask=torch.full(shape, 0.5))), sample(strength(video_model, 0.5, 0.5))
    )


def test_a_mask_of_another_shape_than_the_latents():
    """A square mask on a wide video is stretched, as for every module."""
    mask = torch.zeros(64, 64)
    mask[:, :32] = 1.0
    found = Setting(mask=mask).strengths(FRAMES, FRAMES, (8, 16), {})["attention"]
    assert found.shape == (FRAMES, 1, 8, 16)
    assert torch.equal(found[0, 0, 0], torch.tensor([1.0] * 8 + [0.0] * 8))


def test_range_of_steps(video_model):
    """Two nodes, each for its half of sampling, and the whole range given in two halves."""
    off = sample(strength(video_model, 0.0, 0.0), steps=4)
    full = sample(video_model, steps=4)
    first_half = sample(strength(video_model, 0.0, 0.0, end_percent=0.6), steps=4)
    assert not torch.allclose(first_half, off, atol=1e-3) and not torch.allclose(first_half, full, atol=1e-3)
    both = strength(strength(video_model, 0.0, 0.0, end_percent=0.5), 0.0, 0.0, start_percent=0.5)
    assert torch.equal(sample(both, steps=4), off)
    last_counts = strength(strength(video_model, 0.0, 0.0), 1.0, 1.0)
    assert torch.equal(sample(last_counts, steps=4), full)


@pytest.mark.parametrize("module", [TemporalAttention(64), TemporalTransformer(64, heads=8)])
def test_key_scale_multiplies_the_keys(module):
    with torch.inference_mode(False), torch.no_grad():
        x = torch.randn(8, 64, 2, 2, generator=torch.Generator().manual_seed(0))
        attentions = [part for part in module.modules() if hasattr(part, "key_scale")]
        for part in attentions:
            torch.nn.init.normal_(part.to_out.weight)
            part.key_scale = 1.3
        scaled = module(x, 4)
        for part in attentions:
            part.key_scale = 1.0
            part.to_k.weight *= 1.3
        torch.testing.assert_close(module(x, 4), scaled)


def test_key_scale_is_of_one_model(video_model):
    expected = sample(video_model)
    assert not torch.allclose(sample(strength(video_model, key_scale=1.5)), expected, atol=1e-4)
    assert torch.equal(sample(video_model), expected)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"attention": float("nan")}, "attention is nan"),
        ({"key_scale": float("inf")}, "key_scale is inf"),
        ({"per_frame": [1.0, float("nan")]}, r"per_frame\[1\] is nan"),
        ({"start_percent": 0.6, "end_percent": 0.5}, "start_percent 0.6 is greater than end_percent 0.5"),
    ],
)
def test_wrong_values_are_refused(video_model, values, message):
    with pytest.raises(ValueError, match=message):
        strength(video_model, **values)


def test_lengths_that_do_not_fit_are_refused(video_model):
    with pytest.raises(ValueError, match="per_frame has 3 numbers, but the video has 4 frames"):
        sample(strength(video_model, per_frame=[1.0] * 3))
    with pytest.raises(ValueError, match="There are 3 masks, but the video has 4 frames"):
        sample(strength(video_model, mask=torch.ones(3, 8, 8)))


def test_layers_are_freed_without_garbage_collection(model, caplog):
    """ComfyUI logs a memory leak for a model that only garbage collection frees."""
    caplog.set_level(logging.INFO)
    gc.collect()
    gc.disable()
    try:
        video = with_strength(tiny.with_temporal_layers(model), 0.5, 0.5)
        layers = weakref.ref(video.get_additional_models_with_key(KEY)[0].model)
        sample(video)
        del video
        comfy.model_management.cleanup_models_gc()
        comfy.model_management.unload_all_models()
        assert layers() is None
    finally:
        gc.enable()
    assert not any("memory leak" in message for message in caplog.messages)
