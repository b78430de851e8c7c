import pytest
import torch


@pytest.fixture(autouse=True)
def inference_mode():
    """As ComfyUI runs nodes."""
    with torch.inference_mode():
        yield


@pytest.fixture(autouse=True)
def file_lists(comfyui):
    """Forget ComfyUI's cached lists of model files: a list of a deleted folder fails in every later test."""
    import folder_paths

    yield
    folder_paths.filename_list_cache.clear()


@pytest.fixture
def model():
    """A checkpoint of its own for each test."""
    from emu_video.tests.comfyui.tiny import checkpoint

    return checkpoint()


@pytest.fixture
def video_model(model):
    """The checkpoint with temporal layers that change what it makes."""
    from emu_video.tests.comfyui.tiny import with_temporal_layers

    return with_temporal_layers(model)


@pytest.fixture
def interpolation_model(model):
    from emu_video.tests.comfyui.tiny import with_temporal_layers

    return with_temporal_layers(model, role="interpolation")


@pytest.fixture(scope="session")
def vae():
    """A small image VAE with random weights."""
    import comfy.sd
    from comfy.taesd.taesd import TAESD

    generator = torch.Generator().manual_seed(0)
    weights = {
        key: torch.randn(weight.shape, generator=generator) * max(weight[0].numel(), 1) ** -0.5
        for key, weight in TAESD().state_dict().items()
        if weight.ndim
    }
    return comfy.sd.VAE(sd={**weights, "vae_scale": torch.ones(()), "vae_shift": torch.zeros(())})
