"""Each family is told by its keys and shapes, states its facts, accounts for every key and can be saved as our own."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch
from emu_video.temporal_layers.files import load_layers, save_layers
from emu_video.temporal_layers.formats import CHOICES, Options, convert, load
from emu_video.temporal_layers.formats.__main__ import main
from emu_video.temporal_layers.info import LayersInfo
from emu_video.temporal_layers.modules.frames import check_positions
from emu_video.temporal_layers.reader import Weights
from emu_video.tests.temporal_layers.formats import public
from safetensors.torch import save_file

LINEAR = {"schedule": "linear", "start": 0.00085, "end": 0.012, "steps": 1000}
SCALED = LINEAR | {"schedule": "scaled_linear"}
SDXL_BETA = SCALED | {"end": 0.020}
V2, V3, CLIP_SD15, CLIP_SDXL = 21, 20, 45, 35  # modules; group norms of residual blocks and output
KNOWN, AFFINITY = "known_frames", "affinity"


def facts(family, base, kinds, max_frames, betas, prediction="eps", zero_snr=False, extra=0, conditioning=KNOWN):
    return family, base, kinds, max_frames, betas, prediction, zero_snr, extra, conditioning


FILES = {
    "AnimateDiff v1": (public.animatediff(**public.V1), facts(
        "AnimateDiff v1", "sd15", {"transformer": V3, "clip_norm": CLIP_SD15}, 24, LINEAR)),
    "AnimateDiff v2": (public.animatediff(**public.V2), facts(
        "AnimateDiff v2", "sd15", {"transformer": V2}, 32, LINEAR)),
    "AnimateDiff v3": (public.animatediff(**public.V3), facts(
        "AnimateDiff v3", "sd15", {"transformer": V3}, 32, LINEAR)),
    "AnimateDiff SDXL": (public.animatediff(**public.SDXL_BETA), facts(
        "AnimateDiff SDXL beta", "sdxl", {"transformer": 15}, 32, SDXL_BETA)),
    "no positions": (public.animatediff(middle=True, positions=0), facts(
        "AnimateDiff v2", "sd15", {"transformer": V2}, 32, LINEAR)),
    "long": (public.animatediff(positions=64), facts(
        "AnimateDiff v3", "sd15", {"transformer": V3}, 64, LINEAR)),
    "HotshotXL": (public.hotshotxl(), facts(
        "HotshotXL", "sdxl", {"transformer": 15, "clip_norm": CLIP_SDXL}, 24, SCALED)),
    "PIA": (public.pia(), facts(
        "PIA", "sd15", {"input": 1, "transformer": V3, "clip_norm": CLIP_SD15}, 32, LINEAR, extra=5,
        conditioning=AFFINITY)),
    "FancyVideo": (public.fancyvideo(), facts(
        "FancyVideo", "sd15", {"input": 1, "transformer": V2, "embedding": 1}, 32, LINEAR, "v", True, 5)),
    "FancyVideo without embeddings": (public.fancyvideo(embeddings=()), facts(
        "FancyVideo", "sd15", {"input": 1, "transformer": V2}, 32, LINEAR, "v", True, 5)),
    "ModelScope": (public.modelscope(), facts(
        "ModelScope", "sd21", {"transformer_in": 1, "conv_stack": 22, "transformer": 16}, 0, SCALED)),
    "ModelScope original": (public.modelscope_original(public.modelscope()), facts(
        "ModelScope", "sd21", {"transformer_in": 1, "conv_stack": 22, "transformer": 16}, 0, SCALED)),
}  # fmt: skip


def of(tensors, metadata=None) -> Weights:
    return Weights("mine.safetensors", dict(tensors), metadata or {})


@pytest.mark.parametrize("name", FILES)
def test_facts_of_each_family(name):
    tensors, expected = FILES[name]
    state_dict, info = convert(of(tensors))
    assert expected == (
        info.family, info.base, Counter(anchor.kind for anchor in info.anchors), info.max_frames, info.betas,
        info.prediction, info.zero_terminal_snr, info.conditioning_channels, info.conditioning,
    )  # fmt: skip
    tables = sum(tensor.ndim == 3 and len(tensor) == 1 for tensor in tensors.values())
    spatial = sum(key in ("conv_in.bias",) for key in tensors)
    assert len(state_dict) == len(tensors) - tables - spatial


@pytest.mark.parametrize("name", FILES)
def test_a_converted_file_is_the_same_when_saved_as_our_own(name, tmp_path):
    state_dict, info = convert(of(FILES[name][0]))
    save_layers(tmp_path / "own.safetensors", state_dict, info)
    for again, info_again in (load_layers(tmp_path / "own.safetensors"), load(tmp_path / "own.safetensors")):
        assert info_again == info
        assert again.keys() == state_dict.keys()
        assert all(torch.equal(tensor, state_dict[key]) for key, tensor in again.items())


@pytest.mark.slow
def test_every_missing_key_is_named():
    for tensors, _ in FILES.values():
        for key in list(tensors)[::37]:
            if "pos_encoder" in key or key.startswith("conv_in."):
                continue
            rest = {k: t for k, t in tensors.items() if k != key}
            with pytest.raises(ValueError, match=f"is missing the key {key}"):
                convert(of(rest))


@pytest.mark.parametrize("name", FILES)
def test_an_unknown_key_is_named(name):
    tensors, _ = FILES[name]
    first = next(key for key in tensors if "proj_in" in key)
    for key in (first.replace("proj_in", "gate"), "something.weight"):
        with pytest.raises(ValueError, match=f"unknown key {key}"):
            convert(of({**tensors, key: torch.zeros(3)}))


@pytest.mark.parametrize("name", ["AnimateDiff v2", "PIA", "FancyVideo", "HotshotXL"])
def test_image_weights_of_a_whole_checkpoint_are_left_out(name):
    tensors, _ = FILES[name]
    expected, _ = convert(of(tensors))
    state_dict, info = convert(of({**public.spatial(), **tensors}))
    assert state_dict.keys() == expected.keys()
    assert info.left_out >= len(public.spatial())


def test_a_wrong_shape_is_named():
    tensors = dict(public.animatediff())
    key = "up_blocks.1.motion_modules.2.temporal_transformer.proj_in.weight"
    tensors[key] = tensors[key][:, :-1]
    with pytest.raises(ValueError, match=rf"{key} has shape \[64, 63\] instead of \[64, 64\]"):
        convert(of(tensors))


def test_positions_of_another_kind_are_refused():
    tensors = public.animatediff()
    key = next(key for key in tensors if key.endswith("pos_encoder.pe"))
    for table in (tensors[key] * 2, public.sinusoids(24, 32)):
        with pytest.raises(ValueError, match="is not the usual table of sinusoids"):
            convert(of({**tensors, key: table}))


def test_half_precision_keeps_its_type_and_its_positions():
    tensors = {key: tensor.to(torch.bfloat16) for key, tensor in public.animatediff().items()}
    state_dict, info = convert(of(tensors))
    assert info.max_frames == 32
    assert {tensor.dtype for tensor in state_dict.values()} == {torch.bfloat16}


def test_animatelcm_is_a_choice_or_said_by_the_file():
    tensors = public.animatediff(middle=True, positions=0)
    assert convert(of(tensors))[1].family == "AnimateDiff v2"
    for file, options in (
        (of(tensors), Options(family="AnimateLCM")),
        (of(tensors, {"modelspec.title": "AnimateLCM sd15 t2v"}), Options()),
    ):
        info = convert(file, options)[1]
        assert (info.family, info.max_frames, info.betas) == ("AnimateLCM", 64, LINEAR)
    merged = convert(of(public.animatediff(), {"description": "merged, by the recipe of AnimateLCM"}))[1]
    assert merged.family == "AnimateDiff v3"  # AnimateLCM has a module in the middle
    with pytest.raises(ValueError, match="has no motion modules, so it is not AnimateLCM"):
        convert(of(public.modelscope()), Options(family="AnimateLCM"))
    with pytest.raises(ValueError, match='family "PIA" cannot be selected; use one of AnimateLCM'):
        convert(of(tensors), Options(family="PIA"))
    for file in (public.pia(), public.fancyvideo(embeddings=()), public.animatediff(), public.hotshotxl()):
        with pytest.raises(
            ValueError,
            match="(not AnimateLCM, which has motion modules|has no motion modules).*let the family be identified",
        ):
            convert(of(file), Options(family="AnimateLCM"))
    with pytest.raises(ValueError, match="holds AnimateLCM-I2V"):
        convert(of({**tensors, "img_encoder.conv_in.weight": torch.zeros(1)}), Options(family="AnimateLCM"))
    assert list(CHOICES) == ["AnimateLCM"]


@pytest.mark.parametrize("name", ["AnimateDiff v1", "AnimateDiff v2", "HotshotXL", "ModelScope"])
@pytest.mark.parametrize("norm", ["frame", "clip"])
def test_group_norms_are_an_option(name, norm):
    info = convert(of(FILES[name][0]), Options(transformer_norm=norm, resnet_norm=norm))[1]
    assert all(options["norm"] == norm for options in info.modules.values())
    if name != "ModelScope":
        assert any(anchor.kind == "clip_norm" for anchor in info.anchors) == (norm == "clip")


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (
            ["down_blocks.0.attentions.0.time_mixer.mix_factor"],
            "holds Stable Video Diffusion, .* image-to-video checkpoint",
        ),
        (["input_blocks.1.1.time_stack.0.norm1.weight"], "holds Stable Video Diffusion"),
        (["controlnet_cond_embedding.weight", "down_blocks.0.motion_modules.0.x"], "holds SparseCtrl"),
        (["img_encoder.conv_in.weight", *public.animatediff(middle=True)], "holds AnimateLCM-I2V"),
        (["image_latents_proj_in.0.weight"], "holds I2VGen-XL"),
        (["init_attn.0.norm.weight", "input_blocks.1.0.temopral_conv.conv1.0.weight"], "holds DynamiCrafter"),
        (["down_blocks.0.tempo_attns.0.norm.weight"], "holds ConsistI2V"),
        (list(public.motion_lora()), "holds a motion LoRA, .* as a motion LoRA"),
        (["down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.up.weight"], "ordinary LoRA"),
        (["a.weight", "b.weight"], r"not in a known format of temporal layers \(its first keys: a.weight, b.weight\)"),
        ([], r"not in a known format of temporal layers \(its first keys: none\)"),
    ],
)
def test_other_files_are_refused_with_the_reason(keys, reason):
    with pytest.raises(ValueError, match=reason):
        convert(of({key: torch.zeros(1) for key in keys}))


def test_own_files_keep_their_metadata():
    """Entries that public formats brought are not written where they say nothing."""
    state_dict, info = convert(of(public.animatediff()))
    entries = json.loads(info.to_json())
    assert entries["family"] == "AnimateDiff v3" and "conditioning" not in entries
    plain = {key: value for key, value in entries.items() if key not in ("family", "modules")}
    assert json.loads(LayersInfo.from_json(json.dumps(plain)).to_json()) == plain


def test_files_as_they_are_found(tmp_path):
    """Prefixes, wrappers, bookkeeping, pickles of weights alone, folders of diffusers."""
    tensors = public.animatediff()
    expected, info = convert(of(tensors))
    prefixed = {f"module.{key}": tensor for key, tensor in tensors.items()}
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save(tensors, tmp_path / "b.ckpt")
    torch.save({"epoch": 3, "global_step": 7, "state_dict": prefixed}, tmp_path / "c.ckpt")
    torch.save({"module": prefixed, "ds_version": "0.9"}, tmp_path / "d.pt")
    torch.save(tensors | {"animatediff_config": {"a": 1}}, tmp_path / "e.pth")
    torch.save({"epoch": torch.tensor(3), "controlnet": tensors | {"lr": 1e-4}}, tmp_path / "g.ckpt")
    torch.save(tensors | {"global_step": torch.tensor(7)}, tmp_path / "h.ckpt")
    torch.save(tensors, tmp_path / "f.bin", _use_new_zipfile_serialization=False)
    for file in sorted(tmp_path.iterdir()):
        state_dict, info_of_file = load(file)
        assert info_of_file.family == info.family and info_of_file.source == file.name
        assert all(torch.equal(tensor, expected[key]) for key, tensor in state_dict.items())
        assert state_dict.keys() == expected.keys()


class Code:
    def __reduce__(self):
        return (print, ("code ran",))


def test_a_pickle_with_code_is_not_opened(tmp_path, capsys):
    torch.save({"state_dict": public.animatediff(), "hook": Code()}, tmp_path / "bad.ckpt")
    with pytest.raises(ValueError, match="bad.ckpt contains more than weights, so opening it could run code"):
        load(tmp_path / "bad.ckpt")
    assert "code ran" not in capsys.readouterr().out


def test_damaged_and_foreign_files_are_named(tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    torch.save(public.animatediff(), tmp_path / "cut.ckpt")
    (tmp_path / "cut.ckpt").write_bytes((tmp_path / "cut.ckpt").read_bytes()[:5000])
    torch.save([1, 2], tmp_path / "list.ckpt")
    torch.save({"a": torch.zeros(1), "note": {"a": 1}}, tmp_path / "note.ckpt")
    for name, word in (("cut.safetensors", "damaged"), ("cut.ckpt", "damaged"), ("list.ckpt", "no state dict"),
                       ("note.ckpt", "note, which is not a tensor"), ("none.ckpt", "does not exist")):  # fmt: skip
        with pytest.raises(ValueError, match=f"{name}.*{word}"):
            load(tmp_path / name)


def test_command_line(tmp_path, capsys):
    torch.save({"state_dict": public.fancyvideo()}, tmp_path / "fancy.pt")
    main([str(tmp_path / "fancy.pt"), str(tmp_path / "own.safetensors")])
    said = capsys.readouterr().out
    assert "FancyVideo for sd15: 23 anchors" in said and "zero terminal SNR: True" in said and "at most 32" in said
    assert load_layers(tmp_path / "own.safetensors")[1] == load(tmp_path / "fancy.pt")[1]
    torch.save(public.spatial(), tmp_path / "image.pt")
    assert main([str(tmp_path / "image.pt")]) == 1
    assert "not in a known format" in capsys.readouterr().err


def test_a_file_without_position_table_hints_at_the_other_family():
    with pytest.raises(ValueError, match=r"at most 32\. For AnimateLCM files \(64 positions\), choose that family"):
        check_positions(40, 32)
    with pytest.raises(ValueError, match=r"at most 64\.$"):
        check_positions(65, 64)
