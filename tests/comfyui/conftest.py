import pytest
import torch


@pytest.fixture(autouse=True)
def inference_mode():
    """As ComfyUI runs nodes."""
    with torch.inference_mode():
        yield


@pytest.fixture
def model():
    """A checkpoint of its own for each test."""
    from emu_video.tests.comfyui.tiny import checkpoint

    return checkpoint()
