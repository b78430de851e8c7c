"""Injected layers together with ComfyUI's own model patches."""

from __future__ import annotations

import comfy.model_management
import comfy.sd
import pytest
import torch
from comfy_extras.nodes_torch_compile import TorchCompileModel
from emu_video.host import injection
from emu_video.host.injection import KEY
from emu_video.temporal_layers.attach import attach
from emu_video.tests.comfyui.tiny import (
    FRAMES,
    first_frame_known,
    in_windows,
    lora_file,
    sample,
    text,
    weights_hash,
    with_temporal_layers,
)


def with_lora(model):
    return comfy.sd.load_lora_for_models(model, None, lora_file(model), 0.7, 0)[0]


def with_bypass_lora(model):
    return comfy.sd.load_bypass_lora_for_models(model, None, lora_file(model), 0.7, 0)[0]


@pytest.mark.parametrize("add_lora", [with_lora, with_bypass_lora])
def test_lora_before_and_after_has_the_effect_it_has_without(model, add_lora):
    before = weights_hash(model)
    image = sample(model, frames=1)

    def fresh(model):
        return with_temporal_layers(model, fresh=True)

    video = sample(fresh(model))
    plain = add_lora(model)
    plain.add_object_patch("model_sampling", fresh(model).get_model_object("model_sampling"))
    effect = sample(plain) - video
    assert effect.abs().max() > 1e-2
    torch.testing.assert_close(sample(add_lora(fresh(model))) - video, effect, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sample(fresh(add_lora(model))) - video, effect, atol=1e-5, rtol=1e-5)

    first, last = add_lora(with_temporal_layers(model)), with_temporal_layers(add_lora(model))
    made = sample(first)
    assert torch.equal(made, sample(last))
    assert (made - sample(with_temporal_layers(model))).abs().max() > 1e-2

    assert torch.equal(sample(model, frames=1), image)
    del first, last, plain
    comfy.model_management.unload_all_models()
    for module in model.model.diffusion_model.modules():  # core leaves the original, bound, on the instance
        if getattr(vars(module).get("forward"), "__func__", None) is type(module).forward:
            del module.forward
    assert weights_hash(model) == before


@pytest.mark.parametrize("ours_first", [True, False])
def test_a_forward_replaced_by_another_pack(model, ours_first):
    """Put on after ours and taken off after ours, and the other way round, on a convolution we hang a layer on."""
    before, video = weights_hash(model), with_temporal_layers(model)
    expected = sample(video)
    conv = model.model.diffusion_model.get_submodule("input_blocks.1.0.in_layers.2")
    original = conv.forward
    if ours_first:
        sample(video)
    conv.forward = lambda x: original(x) * 1.5
    replaced = sample(video)
    assert not torch.equal(replaced, expected)
    if ours_first:
        del video
        comfy.model_management.unload_all_models()
    del conv.forward
    assert torch.equal(sample(with_temporal_layers(model)), expected)
    assert weights_hash(model) == before


@pytest.mark.parametrize("causal", [True, False])
def test_context_windows(model, monkeypatch, causal):
    """With the causal fix later windows hold one frame more than the length set, and the layers follow."""
    known = first_frame_known(frames=9)
    conds = {"positive": text(1, known_frames=known), "negative": text(2, known_frames=known)}
    fresh = with_temporal_layers(model, fresh=True)
    plain = fresh.clone()
    plain.wrappers["apply_model"].pop(KEY)
    # Both have identity layers, but the plain UNet has no use for the known frames.
    assert torch.equal(
        sample(in_windows(plain, causal=causal), frames=9), sample(in_windows(fresh, causal=causal), frames=9)
    )

    video = in_windows(with_temporal_layers(model), causal=causal)
    seen = set()

    def attach_and_look(unet, layers, owner):
        seen.add(layers.frames)
        attach(unet, layers, owner)

    monkeypatch.setattr(injection, "attach", attach_and_look)
    made = sample(video, frames=9, **conds)
    assert made.isfinite().all()
    assert seen == ({4, 5} if causal else {4})


@pytest.mark.parametrize("compile_first", [True, False])
def test_torch_compile_node(model, compile_first):
    """Two lengths and the plain image, in turns. Run eagerly, so that no C++ compiler is needed."""

    def compiled(model):
        return TorchCompileModel.execute(model, "eager").result[0]

    def one_step(model, frames):
        return sample(model, frames=frames, steps=1, cfg=1.0)

    image = one_step(model, 1)
    layers = with_temporal_layers(model)
    expected = {frames: one_step(layers, frames) for frames in (FRAMES, 2)}
    torch._dynamo.reset()
    plain = compiled(model)
    torch.testing.assert_close(one_step(plain, 1), image, atol=1e-4, rtol=1e-4)
    video = with_temporal_layers(compiled(model)) if compile_first else compiled(layers)
    for frames in (FRAMES, 2, FRAMES):
        torch.testing.assert_close(one_step(video, frames), expected[frames], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(one_step(plain, 1), image, atol=1e-4, rtol=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
