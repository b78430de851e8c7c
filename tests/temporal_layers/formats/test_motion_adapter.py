"""MotionAdapter of diffusers, as a file and as a folder; and motion LoRAs."""

from __future__ import annotations

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_animatediff_checkpoint_to_diffusers
from diffusers.models.unets.unet_motion_model import MotionAdapter
from emu_video.temporal_layers.formats import Options, convert, load
from emu_video.temporal_layers.formats.motion_lora import pairs
from emu_video.temporal_layers.formats.weights import Weights, read
from emu_video.tests.temporal_layers.formats import public
from safetensors.torch import save_file


def adapter(tensors, widths=public.SD15, middle=True, conv_in=None, length=32) -> MotionAdapter:
    """MotionAdapter with the weights of an AnimateDiff file, by diffusers' own conversion."""
    model = MotionAdapter(widths, use_motion_mid_block=middle, conv_in_channels=conv_in, motion_max_seq_length=length)
    loaded = model.load_state_dict(convert_animatediff_checkpoint_to_diffusers(tensors), strict=False)
    assert not loaded.unexpected_keys and all("pos_embed" in key for key in loaded.missing_keys)
    return model


CASES = {
    "AnimateDiff v1": (public.animatediff(**public.V1), {"middle": False, "length": 24}),
    "AnimateDiff v2": (public.animatediff(**public.V2), {}),
    "AnimateDiff v3": (public.animatediff(**public.V3), {"middle": False}),
    "AnimateDiff SDXL beta": (public.animatediff(**public.SDXL_BETA), {"middle": False, "widths": public.SDXL}),
    "PIA": (public.pia(), {"middle": False, "conv_in": 9}),
}


@pytest.mark.parametrize("family", CASES)
def test_an_adapter_is_the_official_file(family, tmp_path):
    tensors, options = CASES[family]
    official, info = convert(Weights("official", tensors))
    adapter(tensors, **options).save_pretrained(tmp_path)
    for path in (tmp_path, tmp_path / "diffusion_pytorch_model.safetensors"):
        state_dict, info_of_adapter = load(path)
        assert info_of_adapter.family == info.family == family
        assert info_of_adapter.anchors == info.anchors and info_of_adapter.modules == info.modules
        assert state_dict.keys() == official.keys()
        assert all(torch.equal(tensor, official[key]) for key, tensor in state_dict.items())


def test_heads_and_positions_are_read_from_the_config(tmp_path):
    tensors = public.animatediff(**public.V2)
    model = MotionAdapter(public.SD15, motion_num_attention_heads=4, motion_max_seq_length=48)
    model.load_state_dict(convert_animatediff_checkpoint_to_diffusers(tensors), strict=False)
    model.save_pretrained(tmp_path)
    assert load(tmp_path)[1].modules["transformer"] == {"heads": 4, "positions": 48, "norm": "frame"}


def test_animatelcm_in_diffusers_naming():
    tensors = convert_animatediff_checkpoint_to_diffusers(public.animatediff(middle=True, positions=0))
    assert convert(Weights("file", tensors), Options(family="AnimateLCM"))[1].max_frames == 64


def merged(tensors, lora, strength):
    """As the official code merges: weight += strength * up @ down."""
    tensors = {key: tensor.clone() for key, tensor in tensors.items()}
    for key in lora:
        if ".down." in key:
            target = key.replace("processor.", "").replace("_lora.down", "").replace("to_out.", "to_out.0.")
            tensors[target] += strength * lora[key.replace(".down.", ".up.")] @ lora[key]
    return tensors


@pytest.mark.parametrize("naming", ["official", "diffusers", "peft"])
def test_motion_lora_is_what_the_official_code_merges(naming):
    tensors, lora = public.animatediff(**public.V2), public.motion_lora()
    expected, info = convert(Weights("merged", merged(tensors, lora, 0.7)))
    if naming != "official":
        lora = {f"unet.{key}": tensor for key, tensor in convert_animatediff_checkpoint_to_diffusers(lora).items()}
    if naming == "peft":
        for ours, theirs in (("_lora.down", ".lora_A"), ("_lora.up", ".lora_B"), (".processor", "")):
            lora = {key.replace(ours, theirs): tensor for key, tensor in lora.items()}
    weights = Weights("lora", lora)
    state_dict, _ = convert(Weights("file", tensors))
    changes = pairs(weights, info)
    assert len(changes) == len(lora) // 2
    for key, tensor in state_dict.items():
        if key in changes:
            up, down = changes[key]
            tensor = tensor + 0.7 * up @ down
        assert torch.allclose(tensor, expected[key], atol=1e-6)


def test_motion_loras_of_other_layers_are_refused(tmp_path):
    _, info = convert(Weights("file", public.animatediff(**public.V3)))
    lora = public.motion_lora()
    save_file(lora, tmp_path / "lora.safetensors")
    assert pairs(read(tmp_path / "lora.safetensors"), info)
    for weights in (public.motion_lora(middle=True), public.motion_lora(widths=(64, 64, 64, 64))):
        with pytest.raises(ValueError, match=r"fits no module of these temporal layers \(AnimateDiff v3, sd15\)"):
            pairs(Weights("lora", weights), info)
    with pytest.raises(ValueError, match="something, which no motion LoRA has"):
        pairs(Weights("lora", {**lora, "something": torch.zeros(1)}), info)
    half = {key: tensor for i, (key, tensor) in enumerate(lora.items()) if i}
    with pytest.raises(ValueError, match="but one of the two sides"):
        pairs(Weights("lora", half), info)
