"""Reference counting alone frees an unused MODEL. Python's garbage collector may run too late for the next one."""

import gc
import weakref

import comfy.model_management
from emu_video.tests.comfyui import tiny


def test_a_dropped_model_with_layers_leaves_memory():
    image = tiny.checkpoint()
    video = tiny.with_temporal_layers(image)
    gc.collect()
    gc.disable()
    try:
        tiny.sample(video)
        modules = [weakref.ref(module) for module in image.model.diffusion_model.modules()]
        del image, video
        comfy.model_management.cleanup_models()
        left = [type(module()).__name__ for module in modules if module() is not None]
        assert left == []
    finally:
        gc.enable()
        gc.collect()
