"""MotionAdapter of diffusers, as a file and as a folder; and motion LoRAs."""

from __future__ import annotations

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_animatediff_checkpoint_to_diffusers
from diffusers.models.unets.unet_motion_model import MotionAdapter
from emu_video.temporal_layers.formats import Options, convert, load
from emu_video.temporal_layers.formats.motion_lora import LowRank, motion_lora
from emu_video.temporal_layers.reader import Weights, read
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
    changes = motion_lora(weights, info).changes
    assert len(changes) == len(lora) // 2
    for key, tensor in state_dict.items():
        if key in changes:
            tensor = tensor + 0.7 * product(changes[key])
        assert torch.allclose(tensor, expected[key], atol=1e-6)


def test_motion_loras_of_other_layers_are_refused(tmp_path):
    _, info = convert(Weights("file", public.animatediff(**public.V3)))
    lora = public.motion_lora()
    save_file(lora, tmp_path / "lora.safetensors")
    assert motion_lora(read(tmp_path / "lora.safetensors"), info).changes
    with pytest.raises(ValueError, match=r"does not belong to these temporal layers \(AnimateDiff v3, sd15\)"):
        motion_lora(Weights("lora", public.motion_lora(middle=True)), info)
    with pytest.raises(ValueError, match=r"shapes \[64, 4\] and \[4, 64\] instead of \[32, rank\] and \[rank, 32\]"):
        motion_lora(Weights("lora", public.motion_lora(widths=(64, 64, 64, 64))), info)
    with pytest.raises(ValueError, match="something, which is not a low-rank matrix"):
        motion_lora(Weights("lora", {**lora, "something": torch.zeros(1)}), info)
    half = {key: tensor for i, (key, tensor) in enumerate(lora.items()) if i}
    with pytest.raises(ValueError, match="missing the up or down matrix of input_blocks"):
        motion_lora(Weights("lora", half), info)
    with pytest.raises(ValueError, match="is a LoRA for the image model, not a motion LoRA"):
        motion_lora(Weights("lora", public.domain_adapter()), info)
    for other in (public.modelscope(), public.animatediff(middle=True)):
        with pytest.raises(ValueError, match="not a low-rank matrix of a LoRA"):
            motion_lora(Weights("lora", other), info)
    _, modelscope = convert(Weights("file", public.modelscope()))
    with pytest.raises(ValueError, match=r"\(ModelScope\) have no motion modules"):
        motion_lora(Weights("lora", lora), modelscope)


def product(change: LowRank) -> torch.Tensor:
    scale = 1.0 if change.alpha is None else change.alpha / len(change.down)
    return scale * change.up @ change.down


def motion_director(rank: int = 4) -> dict[str, torch.Tensor]:
    """Every linear layer of the temporal blocks, as the MotionDirector trainer for AnimateDiff names them."""
    random, weights = public.Random(9), {}
    for block, j, c in public.slots(public.SD15, middle=True):
        layers = {f"attention_blocks.{i}.processor.{name}": (c, c) for i in (0, 1) for name in ("to_q", "to_k", "to_v")}
        layers |= {f"attention_blocks.{i}.to_out.processor.0": (c, c) for i in (0, 1)}
        layers |= {"ff.net.0.processor.proj": (8 * c, c), "ff.net.processor.2": (c, 4 * c)}
        for name, (outputs, inputs) in layers.items():
            key = f"{block}.motion_modules.{j}.temporal_transformer.transformer_blocks.0.{name}_lora"
            weights[f"{key}.down.weight"] = random(rank, inputs)
            weights[f"{key}.up.weight"] = random(outputs, rank)
    return weights


def target(key: str) -> str:
    """The weight of an AnimateDiff file that a matrix of MotionDirector changes."""
    return key.replace(".processor", "").split("_lora")[0] + ".weight"


def peft(key: str) -> str:
    layer = target(key).removesuffix(".weight")
    return f"base_model.model.{layer}.lora_{'B' if '.up.' in key else 'A'}.default.weight"


def kohya(lora: dict[str, torch.Tensor], alpha: float) -> dict[str, torch.Tensor]:
    renamed = {}
    for key, tensor in lora.items():
        layer = "lora_unet_" + target(key).removesuffix(".weight").replace(".", "_")
        renamed[f"{layer}.lora_{'up' if '.up.' in key else 'down'}.weight"] = tensor
        renamed[f"{layer}.alpha"] = torch.tensor(alpha)
    return renamed


@pytest.mark.parametrize("naming", ["MotionDirector", "alphas", "kohya", "PEFT", "diffusion_model"])
def test_attention_and_feed_forward_are_changed_as_the_trainer_does(naming):
    tensors, lora = public.animatediff(**public.V2), motion_director()
    changed, scale = dict(tensors), 0.5 if naming in ("kohya", "alphas") else 1.0
    for key in lora:
        if ".down." in key:
            changed[target(key)] = changed[target(key)] + scale * lora[key.replace(".down.", ".up.")] @ lora[key]
    expected, info = convert(Weights("changed", changed))
    if naming == "kohya":
        lora = kohya(lora, alpha=2.0)
    elif naming == "alphas":  # of old diffusers, and saved as whole numbers
        lora |= {key.replace(".down.weight", ".network_alpha"): torch.tensor([2]) for key in lora if ".down." in key}
    elif naming == "PEFT":
        lora = {peft(key): tensor for key, tensor in lora.items()}
    elif naming == "diffusion_model":
        lora = {f"diffusion_model.{key}": tensor for key, tensor in lora.items()}
    changes = motion_lora(Weights("lora", lora), info).changes
    assert len(changes) == 21 * 10
    state_dict, _ = convert(Weights("file", tensors))
    for key, tensor in state_dict.items():
        assert torch.allclose(tensor + product(changes[key]) if key in changes else tensor, expected[key], atol=1e-6)


def test_spatial_weights_of_a_mixed_file_are_left_out():
    _, info = convert(Weights("file", public.animatediff(**public.V2)))
    mixed = motion_lora(Weights("lora", motion_director() | public.domain_adapter()), info)
    assert len(mixed.changes) == 210 and len(mixed.left_out) == len(public.domain_adapter())


BROKEN = {
    "ranks that differ": lambda up, down: (up, down[:-1], "have shapes"),
    "NaN": lambda up, down: (up * float("nan"), down, "contains NaN or infinity"),
    "bool": lambda up, down: (up.bool(), down, "is of type bool"),
    "complex": lambda up, down: (up.to(torch.complex64), down, "is of type complex64"),
    "a single number": lambda up, down: (up[0, 0], down, "have shapes"),
    "a row": lambda up, down: (up[:, 0], down[0], "have shapes"),
    "fp8": lambda up, down: (up.to(torch.float8_e4m3fn), down, "is stored in fp8"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_matrices_are_refused(name):
    _, info = convert(Weights("file", public.animatediff(**public.V2)))
    lora = public.motion_lora(middle=True)
    down = next(key for key in lora if ".down." in key)
    up = down.replace(".down.", ".up.")
    lora[up], lora[down], reason = BROKEN[name](lora[up], lora[down])
    with pytest.raises(ValueError, match=reason):
        motion_lora(Weights("lora", lora), info)
