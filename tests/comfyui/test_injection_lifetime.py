"""Clones that come and go in any order: the video keeps its layers, the checkpoint keeps its weights."""

from __future__ import annotations

import gc
import random

import comfy.model_management
import pytest
import torch
from emu_video.tests.comfyui.tiny import checkpoint, lora, sample, text, weights_hash, with_temporal_layers


def test_clones_dropped_before_sampling(model):
    video = with_temporal_layers(model)
    expected = sample(video)
    for origin in (video, model):
        clone = origin.clone()
        del clone
        gc.collect()
        assert torch.equal(sample(video), expected)


def test_clones_dropped_while_sampling(model):
    video = with_temporal_layers(model)
    expected = sample(video)

    def drop_clones(step, x0, x, steps):
        for origin in (video, model):
            clone = origin.clone()
            clone.add_patches(lora(model))
            del clone
        gc.collect()

    assert torch.equal(sample(video, callback=drop_clones), expected)


def test_the_loaded_clone_is_freed(model):
    before, image = weights_hash(model), sample(model)
    video = with_temporal_layers(model)
    sample(video)
    del video
    gc.collect()
    assert weights_hash(model) == before
    assert torch.equal(sample(model), image)


def test_an_error_or_an_interruption_leaves_the_checkpoint_clean(model):
    before = weights_hash(model)
    video = with_temporal_layers(model)
    expected = sample(video)

    def interrupt(step, x0, x, steps):
        raise comfy.model_management.InterruptProcessingException()

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        sample(video, callback=interrupt)
    broken = [[context[..., :-1], {}] for context, _ in text(1)]
    with pytest.raises(RuntimeError):
        sample(video, positive=broken)
    assert weights_hash(model) == before
    assert torch.equal(sample(video), expected)


def test_checkpoint_weights_survive_200_random_steps():
    """Inject, patch, sample, eject, clone, delete and unload in any order, on one checkpoint."""
    rng = random.Random(0)
    base = checkpoint()
    before, image = weights_hash(base), sample(base, steps=1, frames=2)
    video = sample(with_temporal_layers(base), steps=1, frames=2)
    models = [base]
    done = dict.fromkeys(("inject", "lora", "sample", "image", "eject", "clone", "delete", "unload"), 0)
    for _ in range(200):
        action, chosen = rng.choice(list(done)), rng.choice(models)
        if action == "inject":
            models.append(with_temporal_layers(chosen, frames=rng.choice((0, 2)), seed=rng.randrange(3)))
        elif action == "lora":
            patched = chosen.clone()
            patched.add_patches(lora(base, seed=rng.randrange(3)), rng.random())
            models.append(patched)
        elif action == "sample":
            sample(chosen, steps=1, frames=2)
        elif action == "image":
            assert torch.equal(sample(base, steps=1, frames=2), image)
        elif action == "eject":
            chosen.detach(unpatch_all=rng.random() < 0.5)
        elif action == "clone":
            models.append(chosen.clone())
        elif action == "delete" and chosen is not base:
            models = [model for model in models if model is not chosen]
            del chosen
            gc.collect()
        elif action == "unload":
            comfy.model_management.unload_all_models()
        done[action] += 1
    assert min(done.values()) > 5
    comfy.model_management.unload_all_models()
    assert weights_hash(base) == before
    assert torch.equal(sample(base, steps=1, frames=2), image)
    assert torch.equal(sample(with_temporal_layers(base), steps=1, frames=2), video)
