"""Public reports rebuilt on narrow stock checkpoints with public files. docs/field.md lists them."""

from __future__ import annotations

import importlib
from typing import Any

import comfy.controlnet
import comfy.lora
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import pytest
import torch
from comfy.ldm.modules.diffusionmodules import openaimodel
from emu_video.host import folders
from emu_video.host.injection import inject, layers_info
from emu_video.host.layer_settings import with_motion_lora
from emu_video.host.videos import LAYERS
from emu_video.nodes import temporal_layers as loader
from emu_video.nodes.layer_settings import TemporalLayerStrength
from emu_video.temporal_layers.formats import convert
from emu_video.temporal_layers.reader import Weights
from emu_video.tests.comfyui import tiny
from emu_video.tests.comfyui.core_nodes import core_nodes
from emu_video.tests.comfyui.features import control_net
from emu_video.tests.comfyui.stock import FRAMES, LATENT, Stock, with_schedule_of
from emu_video.tests.temporal_layers.formats import public
from safetensors.torch import save_file
from torch import Tensor

nodes: Any = importlib.import_module("nodes")  # ComfyUI's, not the pack's
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
WIDTHS = (32, 64, 128, 128)  # of the levels of a narrow SD1.5
LCM_LORA = ("output_blocks.2.1.conv", "output_blocks.5.2.conv", "input_blocks.3.0.op", "middle_block.1.proj_in")


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    with Stock.loaded("sd15", True, (), "AnimateDiff v1", tmp_path_factory.mktemp("loras")) as stock:
        yield stock


@pytest.fixture
def v3(stock):
    return with_file(stock.model, animatediff())


def animatediff(**version: Any) -> dict[str, Tensor]:
    return public.animatediff(WIDTHS, **version)


def with_file(model: Any, tensors: dict[str, Tensor]) -> Any:
    return inject(model, *convert(Weights("mine.safetensors", tensors)), "mine.safetensors")


def noise(frames: int = FRAMES) -> Tensor:
    return torch.randn((frames, *LATENT), generator=torch.Generator().manual_seed(3))


def sample(stock: Stock, model: Any, frames: int = FRAMES, **options: Any) -> Tensor:
    texts = {"positive": stock.prompt(1), "negative": stock.prompt(2)}
    return tiny.sample(model, noise=noise(frames), **{"steps": 1, **texts, **options})


# LoRAs of the image model and other packs


def lcm_lora(model: Any) -> dict[str, Tensor]:
    """A LoRA with keys of convolutions whose place in a block shifts where motion modules are put into the UNet."""
    weights, generator = {}, torch.Generator().manual_seed(1)
    for name in LCM_LORA:
        weight = model.model.diffusion_model.get_submodule(name).weight
        key = "lora_unet_" + name.replace(".", "_")
        weights[f"{key}.lora_down.weight"] = 0.1 * torch.randn(2, *weight.shape[1:], generator=generator)
        weights[f"{key}.lora_up.weight"] = torch.randn(
            weight.shape[0], 2, *(1,) * (weight.ndim - 2), generator=generator
        )
    return weights


def test_a_lora_with_convolutions_finds_its_keys(stock, v3, caplog):
    with_lora = comfy.sd.load_lora_for_models(v3, None, lcm_lora(v3), 1.0, 0)[0]
    assert set(with_lora.patches) == {f"diffusion_model.{name}.weight" for name in LCM_LORA}
    made = sample(stock, with_lora)
    before = comfy.sd.load_lora_for_models(stock.model, None, lcm_lora(v3), 1.0, 0)[0]
    assert torch.equal(made, sample(stock, with_file(before, animatediff())))
    assert (made - sample(stock, v3)).abs().max() > 1e-2
    assert not any("not loaded" in text or "could not patch" in text for text in caplog.messages)


def test_a_lora_does_not_grow_from_run_to_run(stock, v3):
    plain = sample(stock, v3)
    with_lora = comfy.sd.load_lora_for_models(v3, None, lcm_lora(v3), 0.8, 0)[0]
    runs = [sample(stock, with_lora) for _ in range(3)]
    assert torch.equal(runs[0], runs[1]) and torch.equal(runs[0], runs[2])
    assert torch.equal(sample(stock, v3), plain) and stock.is_as_loaded()


def test_a_motion_lora_in_load_lora_changes_nothing_and_its_own_node_does(stock, v3, caplog):
    lora = public.motion_lora(WIDTHS)
    ordinary = comfy.sd.load_lora_for_models(v3, None, lora, 1.0, 0)[0]
    plain = sample(stock, v3)
    assert torch.equal(sample(stock, ordinary), plain)
    assert any("not loaded" in text for text in caplog.messages)
    moved = with_motion_lora(v3, Weights("zoom.safetensors", lora), 1.0)
    assert (sample(stock, moved) - plain).abs().max() > 1e-3
    # Copies on other GPUs (MultiGPU CFG Split) are found by this id and would keep the layers without the LoRA.
    ids = [each.get_additional_models_with_key(LAYERS)[0].clone_base_uuid for each in (v3, moved)]
    assert ids[0] != ids[1]


def test_another_pack_replaced_the_forward_of_all_unets(stock, v3, monkeypatch):
    expected = sample(stock, v3)
    calls, forward = [], openaimodel.UNetModel.forward

    def replaced(self, *args, **options):
        calls.append(len(args))
        return forward(self, *args, **options)

    monkeypatch.setattr(openaimodel.UNetModel, "forward", replaced)
    assert torch.equal(sample(stock, v3), expected) and calls


# Seeds and strength


def test_strength_0_gives_the_images_of_the_same_seed(stock, v3):
    (off,) = TemporalLayerStrength.execute(v3, 0.0, 1.0).args
    plain = sample(stock, with_schedule_of(v3, stock.model))
    assert torch.equal(sample(stock, off), plain)
    assert (sample(stock, v3) - plain).abs().max() > 1e-2


# Precision and memory


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("version", ["v1", "v3"])
def test_a_checkpoint_in_half_precision_on_the_cpu(stock, version, dtype):
    """The layers' file is float32; v1 brings group norms of its own."""
    file = animatediff(**(public.V1 if version == "v1" else public.V3))
    unet = stock.model.model.diffusion_model.state_dict()
    weights = {f"model.diffusion_model.{key}": tensor.to(dtype) for key, tensor in unet.items()}
    with_dtype = comfy.sd.load_state_dict_guess_config(
        weights, output_vae=False, output_clip=False, model_options={"dtype": dtype}
    )[0]
    assert with_dtype.model.get_dtype() == dtype
    made = sample(stock, with_file(with_dtype, file), cfg=1.0)
    exact = sample(stock, with_file(stock.model, file), cfg=1.0)
    assert (made - exact).norm() < (0.02 if dtype == torch.float16 else 0.1) * exact.norm()


@pytest.mark.parametrize("net", [torch.float16, torch.bfloat16])
def test_a_control_net_in_half_precision_beside_float32(stock, v3, net, monkeypatch):
    load_net = comfy.controlnet.load_controlnet_state_dict
    exact = control_net(stock)
    monkeypatch.setattr(
        comfy.controlnet, "load_controlnet_state_dict",
        lambda weights, **_: load_net({k: v.to(net) for k, v in weights.items()}, model_options={"dtype": net}),
    )  # fmt: skip
    half = control_net(stock)
    made, expected = (
        sample(stock, model, positive=positive, negative=negative)
        for model, positive, negative in (setup(v3, stock.prompt(1), stock.prompt(2)) for setup in (half, exact))
    )
    assert (made - expected).norm() < 0.1 * expected.norm()
    assert (expected - sample(stock, v3)).abs().max() > 1e-2


@pytest.mark.parametrize("memory", [1, 200_000])
def test_layers_that_are_loaded_in_part(stock, v3, memory, monkeypatch):
    """Low VRAM: weights that do not fit are cast when they are used, and motion LoRAs with them."""
    moved = with_motion_lora(v3, Weights("zoom.safetensors", public.motion_lora(WIDTHS)), 0.7)
    expected = sample(stock, moved)
    comfy.model_management.unload_all_models()
    load_model, partial = comfy.model_patcher.ModelPatcher.load, []

    def load_in_part(self, device_to=None, **options):
        load_model(self, device_to, **{**options, "lowvram_model_memory": memory, "full_load": False})
        partial.append(self.model.model_lowvram)

    monkeypatch.setattr(comfy.model_patcher.ModelPatcher, "load", load_in_part)
    made = sample(stock, moved)
    assert partial and all(partial)
    torch.testing.assert_close(made, expected, **CLOSE)
    comfy.model_management.unload_all_models()
    assert stock.is_as_loaded()


# Lengths and files


@pytest.mark.parametrize(
    ("file", "frames", "most"),
    [(public.V1, 28, 24), (public.V3, 64, 32), ({"positions": 64}, 65, 64)],
    ids=["v1", "v3", "LongAnimateDiff"],
)
def test_more_frames_than_the_layers_know(stock, file, frames, most):
    model = with_file(stock.model, animatediff(**file))
    assert layers_info(model).max_frames == most
    with pytest.raises(ValueError, match=f"{frames} frames, but .* windows of at most {most}"):
        sample(stock, model, frames)
    if most == 64:
        assert sample(stock, model, 40).isfinite().all()


def test_more_frames_in_context_windows(stock, v3):
    assert sample(stock, tiny.in_windows(v3, 16, 4, "", causal=False), 40).isfinite().all()


@pytest.mark.parametrize("file", [public.hotshotxl(), public.animatediff(**public.SDXL_BETA)], ids=["Hotshot", "beta"])
def test_layers_of_another_base(stock, file):
    with pytest.raises(ValueError, match="contains temporal layers for sdxl, but the model is sd15; use a sdxl model"):
        with_file(stock.model, file)


def test_checkpoints_that_predict_v(stock):
    """The prediction was set by a node, before the layers and behind them."""
    sampling = core_nodes()["ModelSamplingDiscrete"]
    before = sampling().patch(stock.model, "v_prediction", False)[0]
    with pytest.raises(ValueError, match="predicts noise .eps., but this checkpoint predicts v"):
        with_file(before, animatediff())
    behind = sampling().patch(with_file(stock.model, animatediff()), "v_prediction", False)[0]
    with pytest.raises(ValueError, match="ModelSamplingDiscrete .* replaced the noise schedule"):
        sample(stock, behind)


def test_a_saved_graph_without_the_newer_inputs(stock, tmp_path, monkeypatch):
    save_file(animatediff(), tmp_path / "mine.safetensors")
    monkeypatch.setattr(folders, "model_files", lambda folder: ["mine.safetensors"])
    monkeypatch.setattr(folders, "full_path", lambda folder, name: str(tmp_path / name))
    (model,) = loader.LoadTemporalLayers.execute(stock.model, "mine.safetensors").args
    assert layers_info(model).family == "AnimateDiff v3"
