"""ComfyUI's dynamic VRAM, the default on NVIDIA cards: image and video MODEL of one checkpoint in turn.

Its patcher runs here on the CPU, without the allocator of a GPU.
"""

from __future__ import annotations

import comfy.model_management
import comfy.model_patcher
import comfy.sample
import comfy_aimdo.host_buffer
import pytest
import torch
from emu_video.host.injection import without_layers
from emu_video.tests.comfyui import tiny


class HostBuffer:
    size = 0

    def __init__(self, *_):
        pass

    def truncate(self, *_, **__):
        pass


class Dynamic(comfy.model_patcher.ModelPatcherDynamic):
    """ComfyUI makes a static patcher for a CPU; this one stays dynamic, without memory of a GPU to give back."""

    def __new__(cls, *_, **__):
        return object.__new__(cls)

    def detach(self, unpatch_all=True):
        return comfy.model_patcher.ModelPatcher.detach(self, unpatch_all)


@pytest.fixture
def dynamic(pack, monkeypatch):
    monkeypatch.setattr(comfy_aimdo.host_buffer, "HostBuffer", HostBuffer)
    monkeypatch.setattr(comfy.model_patcher, "CoreModelPatcher", Dynamic)


def image_of(model) -> torch.Tensor:
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    return comfy.sample.sample(
        model, noise, 3, 3.0, "euler", "simple", tiny.text(1), tiny.text(2), torch.zeros(1, 4, 8, 8),
        disable_pbar=True, seed=1,
    )  # fmt: skip


@pytest.mark.parametrize("order", ["iv", "ivi", "vi", "viv", "iviv"])
def test_image_and_video_keep_their_own_schedules(dynamic, order):
    alone = {"i": image_of(tiny.checkpoint()), "v": tiny.sample(tiny.with_temporal_layers(tiny.checkpoint()))}
    image = tiny.checkpoint()
    assert image.is_dynamic()
    video = tiny.with_temporal_layers(image)
    for which in order:
        made = image_of(image) if which == "i" else tiny.sample(video)
        assert torch.equal(made, alone[which])


def test_layers_that_are_taken_off_leave_the_schedule_of_the_checkpoint(dynamic):
    image = tiny.checkpoint()
    alone = image_of(image)
    video = tiny.with_temporal_layers(image)
    tiny.sample(video)
    assert torch.equal(image_of(without_layers(video)), alone)
