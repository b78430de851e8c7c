"""Round trip of a file of temporal layers, and every refusal by its message."""

import dataclasses
import json
import os
import zipfile

import pytest
import torch
from emu_video.temporal_layers import files
from emu_video.temporal_layers.backbones import Anchor
from emu_video.temporal_layers.files import METADATA_KEY, check_fits, load_layers, read_info, save_layers, stated_role
from emu_video.temporal_layers.info import LayersInfo
from emu_video.temporal_layers.noise import Discrete, Flow
from emu_video.tests.temporal_layers.small import UNet, info_for, trained_layers
from safetensors.torch import save_file


@pytest.fixture
def layers():
    return trained_layers(UNet())


@pytest.fixture
def state_dict(layers):
    return layers.state_dict()


@pytest.fixture
def info(layers):
    return info_for(layers)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "layers.safetensors"


def write(path, state_dict, info, **changes):
    """A file as another program may write it: nothing is checked."""
    entries = json.loads(info.to_json()) | changes
    save_file(state_dict, path, metadata={METADATA_KEY: json.dumps(entries)})


def refused(path, *words):
    with pytest.raises(ValueError) as error:
        load_layers(path)
    message = str(error.value)
    assert all(word in message for word in (str(path), *words)), message
    assert "\n" not in message


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_round_trip(path, layers, info, dtype):
    state_dict = layers.to(dtype).state_dict()
    save_layers(path, state_dict, info)
    loaded, read = load_layers(path)
    assert read == info
    assert list(read.anchors) == list(layers.anchors)
    assert loaded.keys() == state_dict.keys()
    assert all(torch.equal(loaded[key], state_dict[key]) and loaded[key].dtype == dtype for key in loaded)


def test_keys_are_the_anchors_names(state_dict):
    assert state_dict["input_blocks.0.0.conv.weight"].shape == (8, 8, 3, 1)
    assert state_dict["input_blocks.0.0.extra.weight"].shape == (8, 5, 3, 3)
    assert state_dict["input_blocks.1.0.to_q.weight"].shape == (8, 8)
    assert "input_blocks.0.0.extra.bias" not in state_dict


def test_no_file(path):
    refused(path, "does not exist", "choose a file")


@pytest.mark.parametrize("kept", [0, 5, 100, 0.5, -1])
def test_truncated(path, state_dict, info, kept):
    save_layers(path, state_dict, info)
    size = path.stat().st_size
    os.truncate(path, size + kept if kept < 0 else int(kept * size) if isinstance(kept, float) else kept)
    refused(path, "cut off or damaged", "download or export it again")


@pytest.mark.parametrize("legacy", [True, False])
def test_pickle(path, state_dict, legacy):
    torch.save(state_dict, path, _use_new_zipfile_serialization=not legacy)
    assert zipfile.is_zipfile(path) is not legacy
    refused(path, "is a pickle", "convert it to safetensors")


def test_a_header_that_begins_like_a_pickle_is_read(path, state_dict, info):
    """The first byte of safetensors is the low byte of the header's length, which may be a pickle's 0x80."""
    note = ""
    while True:
        save_layers(path, state_dict, info_with_note(info, note))
        if path.read_bytes()[0] == 0x80:
            break
        note += " " * 8
    assert load_layers(path)[1].training["note"] == note


def info_with_note(info, note):
    return LayersInfo(**(vars(info) | {"training": {"note": note}}))


def test_other_safetensors(path, state_dict):
    save_file(state_dict, path)
    refused(path, f'no metadata entry "{METADATA_KEY}"', "choose a file of temporal layers")


def test_missing_key(path, state_dict, info):
    key = "input_blocks.1.0.to_q.weight"
    del state_dict[key]
    write(path, state_dict, info)
    refused(path, f"is missing the key {key}", "export it again")


def test_surplus_key(path, state_dict, info):
    key = "input_blocks.9.0.to_q.weight"
    write(path, state_dict | {key: torch.zeros(2)}, info)
    refused(path, f"unknown key {key}", "export it again")


def test_wrong_shape(path, state_dict, info):
    key = "out.1.conv.weight"
    write(path, state_dict | {key: torch.zeros(4, 4, 5, 1)}, info)
    refused(path, f"{key} has shape [4, 4, 5, 1] instead of [4, 4, 3, 1]", "export it again")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers(path, state_dict, info, value):
    key = "input_blocks.1.0.mlp_in.bias"
    state_dict[key][3] = value
    write(path, state_dict, info)
    refused(path, key, "NaN", "use an earlier version")


def test_integers(path, state_dict, info):
    key = "out.1.conv.bias"
    write(path, state_dict | {key: torch.zeros(4, dtype=torch.int32)}, info)
    refused(path, key, "is of type int32", "float16")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base": "flux"}, "\"base\" is 'flux': expected sd15, sd21, sdxl, pocket, pocket2."),
        ({"role": "audio"}, "\"role\" is 'audio'"),
        ({"prediction": "x0"}, "prediction\" is 'x0'"),
        ({"frames": 0}, '"frames" is 0'),
        ({"frames": 8.5}, '"frames" is 8.5'),
        ({"fps": "8"}, "\"fps\" is '8'"),
        ({"conditioning_channels": -1}, '"conditioning_channels" is -1'),
        ({"zero_terminal_snr": "yes"}, "zero_terminal_snr\" is 'yes'"),
        ({"noise_told": 1}, '"noise_told" is 1'),
        ({"factor": 0}, '"factor" is 0'),
        ({"factor": 65}, '"factor" is 65'),
        ({"training": []}, '"training" is []'),
        ({"betas": {"schedule": "cosine"}}, 'the entry "betas.end" is missing'),
        ({"anchors": []}, '"anchors" is []'),
        ({"anchors": "all"}, '"anchors"'),
        ({"anchors": [{"name": "out.1"}]}, 'the entry "anchors.0.kind" is missing'),
        ({"anchors": [{"name": "out.1", "kind": "gru", "channels": 4}]}, 'anchor out.1 has the unknown kind "gru"'),
        ({"format_version": 3}, '"format_version" is 3: expected 1 or 2'),
        ({"colour": 1}, 'the entry "colour" is unknown'),
    ],
)
def test_metadata(path, state_dict, info, changes, words):
    write(path, state_dict, info, **changes)
    refused(path, words)


def test_metadata_entry_missing(path, state_dict, info):
    entries = json.loads(info.to_json())
    del entries["prediction"]
    save_file(state_dict, path, metadata={METADATA_KEY: json.dumps(entries)})
    refused(path, 'the entry "prediction" is missing', "export the file again")


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_metadata_is_no_object(path, state_dict, text):
    save_file(state_dict, path, metadata={METADATA_KEY: text})
    refused(path, "metadata is not", "export the file again")


def test_save_refuses_what_load_would(path, state_dict, info):
    state_dict["out.1.conv.bias"][0] = float("nan")
    with pytest.raises(ValueError, match=r"out\.1\.conv\.bias contains NaN or infinity"):
        save_layers(path, state_dict, info)
    assert list(path.parent.iterdir()) == []


def test_a_save_cut_off_leaves_the_earlier_file(path, state_dict, info, monkeypatch):
    save_layers(path, state_dict, info)
    before = path.read_bytes()

    def cut_off(tensors, target, metadata):
        """Write half of the file and a temporary file beside it, as safetensors leaves them when it is killed."""
        target.write_bytes(before[: len(before) // 2])
        target.with_name(".tmpAbCdEf").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(files, "save_file", cut_off)
        with pytest.raises(KeyboardInterrupt):
            save_layers(path, {key: weight + 1 for key, weight in state_dict.items()}, info)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_fit(monkeypatch, info):
    unet = UNet()
    monkeypatch.setattr(files, "identify_base", lambda unet: "pocket")
    check_fits(unet, info, "a.safetensors")
    with pytest.raises(
        ValueError, match=r"a\.safetensors contains temporal layers for sd15, but the model is pocket; use"
    ):
        check_fits(unet, info_for(trained_layers(unet), base="sd15"), "a.safetensors")
    for anchor in (
        Anchor("middle_block.1", "attention", 8),
        Anchor("out.1", "conv", 5),
        Anchor("out.1", "attention", 4),
    ):
        unknown = info_for(trained_layers(unet), anchors=(*info.anchors[:2], anchor))
        with pytest.raises(
            ValueError, match=rf"a\.safetensors has a module for {anchor.name} \({anchor.kind}, {anchor.channels}"
        ):
            check_fits(unet, unknown, "a.safetensors")


def test_the_factor_is_written_where_it_says_something(info):
    sharper = dataclasses.replace(info, role="super_resolution", factor=4)
    assert LayersInfo.from_json(sharper.to_json()) == sharper
    assert "factor" not in info.to_json()


def test_the_role_is_read_from_the_header_alone(path, layers, info, tmp_path):
    save_layers(path, layers.state_dict(), info)
    assert stated_role(path) == info.role
    for name, content in (("pickle.ckpt", b"\x80\x04."), ("empty.safetensors", b""), ("cut.safetensors", b"\xff" * 99)):
        (tmp_path / name).write_bytes(content)
        assert stated_role(tmp_path / name) == ""
    assert stated_role(tmp_path / "missing.safetensors") == ""
    for index, entry in enumerate(("no JSON", "[]", "{}", '{"role": 5}', "[" * 10**5, "null")):
        other = tmp_path / f"{index}.safetensors"
        save_file({"a": torch.zeros(1)}, other, metadata={METADATA_KEY: entry})
        assert stated_role(other) == ""


VERSION_1 = (
    '{"base": "sd15", "role": "video", "anchors": [{"name": "input_blocks.0.0", "kind": "input", "channels": 8}, '
    '{"name": "out.1", "kind": "conv", "channels": 4}], "frames": 16, "fps": 8.0, "conditioning_channels": 5, '
    '"prediction": "eps", "betas": {"schedule": "linear", "start": 0.00085, "end": 0.012, "steps": 1000}, '
    '"zero_terminal_snr": false, "training": {"source": "pia.ckpt", "image weights left out": 686, "note": "x"}, '
    '"format_version": 1, "conditioning": "affinity", "modules": {"transformer": {"heads": 8, "positions": 32}}, '
    '"family": "PIA", "noise_told": true}'
)
"""As the first release wrote it."""


def test_version_1_is_read_and_written():
    info = LayersInfo.from_json(VERSION_1)
    assert info.noise == Discrete(schedule="linear", prediction="eps")
    assert (info.source, info.left_out, info.training) == ("pia.ckpt", 686, {"note": "x"})
    assert (info.conditioning, info.max_frames, info.family, info.noise_told) == ("affinity", 32, "PIA", True)
    assert json.loads(info.to_json()) == json.loads(VERSION_1)


def test_a_flow_on_a_unet_is_version_2():
    info = dataclasses.replace(LayersInfo.from_json(VERSION_1), noise=Flow(shift=2.0))
    entries = json.loads(info.to_json())
    assert entries["format_version"] == 2 and entries["noise"] == {"shift": 2.0, "kind": "flow"}
    assert LayersInfo.from_json(info.to_json()) == info


def test_the_info_alone(path, layers, info):
    save_layers(path, layers.state_dict(), info)
    assert read_info(path) == info
    whole = path.read_bytes()
    for content, words in ((whole[:-9], "cannot be read"), (b"x" * 99, "cannot be read")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=words):
            read_info(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="no metadata entry"):
        read_info(path)
