"""What ComfyUI sets aside for a video is enough: for the temporal weights, and for a step's activations."""

from __future__ import annotations

import comfy.model_management
import pytest
from emu_video.benchmarks.memory_estimate import UNETS, measure
from emu_video.host.injection import KEY
from emu_video.tests.comfyui.tiny import FRAMES, LATENT, sample


def test_what_comfyui_plans_with(video_model, monkeypatch):
    """The activations of both prompts' frames, and temporal weights beside the checkpoint's."""
    planned = []
    load = comfy.model_management.load_models_gpu

    def look(models, memory_required=0, **options):
        planned.append((models, memory_required))
        return load(models, memory_required, **options)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", look)
    sample(video_model)
    ((models, memory),) = planned
    (temporal,) = video_model.get_additional_models_with_key(KEY)
    assert any(temporal.is_clone(model) for model in models)
    assert memory == video_model.model.memory_required([2 * FRAMES, *LATENT])


@pytest.mark.parametrize("unet", UNETS)
def test_the_estimate_covers_the_peak(unet):
    """16 frames at 512 x 512 (SDXL: 1024 x 1024), both prompts at once."""
    for row in measure(unet):
        assert row.plain < row.estimate and row.video < row.estimate, row
