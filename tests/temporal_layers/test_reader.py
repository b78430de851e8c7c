"""Files that are damaged, foreign or hostile are refused by one sentence, within bounds of time and memory."""

from __future__ import annotations

import io
import json
import struct
import time
import zipfile

import pytest
import torch
from emu_video.temporal_layers.formats import load
from emu_video.temporal_layers.reader import CONTAINERS, read
from emu_video.tests.temporal_layers.formats import public
from emu_video.tests.temporal_layers.small import UNet, info_for, trained_layers

SECONDS = 5.0


def torch_file(content) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def compressed(content) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(torch_file(content))) as stored:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for entry in stored.infolist():
                archive.writestr(entry.filename, stored.read(entry))
    return file.getvalue()


def marks(count: int) -> bytes:
    return b"\x80\x02" + b"(" * count + b"."


def zipped(pickle: bytes, name: str = "x/data.pkl") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, pickle)
        archive.writestr("x/version", "3")
    return file.getvalue()


def in_itself() -> dict:
    content: dict = {}
    content["state_dict"] = content
    return content


def safetensors(header: dict) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


def own(**changes) -> bytes:
    entries = json.loads(info_for(trained_layers(UNet())).to_json()) | changes
    return safetensors({"__metadata__": {"emu_video": json.dumps(entries)}})


KEY = "down_blocks.0.motion_modules.0.temporal_transformer.norm.weight"
BETAS = {"schedule": "linear", "start": 0.1, "end": 0.2, "steps": 1000}
MANY = [{"name": f"a.{i}", "kind": "clip_norm", "channels": 8} for i in range(200_000)]
FILES = {
    "a state dict in itself": (lambda: torch_file(in_itself()), "contains itself as an entry"),
    "a compressed archive": (lambda: compressed({KEY: torch.zeros(2**20)}), "is a compressed archive; unpack it"),
    "millions of opcodes": (lambda: zipped(marks(3_000_000)), "pickle of more than 1000000 instructions"),
    "millions of opcodes, legacy": (lambda: marks(3_000_000), "pickle of more than 1000000 instructions"),
    "thousands of digits": (lambda: b"\x80\x02I" + b"9" * 5000 + b"\n.", "is cut off or damaged"),
    "a key that is no name": (lambda: torch_file({1: torch.zeros(3)}), "has the key 1, which is not a text"),
    "a key without end": (lambda: torch_file({"a" * 10**5: torch.zeros(3)}), "has a key of 100000 characters"),
    "a key of two lines": (lambda: torch_file({KEY + "\n": torch.zeros(3)}), r"has the damaged key 'down_blocks.*n'"),
    "one value for many": (lambda: torch_file({KEY: torch.zeros(1).expand(2**30, 2**10)}), "but fewer values"),
    "a sparse tensor": (lambda: torch_file({KEY: torch.eye(3).to_sparse()}), "not a plain tensor .sparse_coo, cpu"),
    "a meta tensor": (lambda: torch_file({KEY: torch.zeros(3, device="meta")}), "not a plain tensor .strided, meta"),
    "a web page": (lambda: b"<!DOCTYPE html><html>", "is a web page, not weights; download the file itself"),
    "a pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer, not weights"),
    "a web page with a mark": (lambda: b"\xef\xbb\xbf\n<!DOCTYPE html>", "is a web page, not weights"),
    "a refused download": (lambda: b'{"error":"Unauthorized"}', "is an error message of the site"),
    "a missing download": (lambda: b"Entry not found", "is an error message of the site"),
    "a denied download": (lambda: b"<?xml version='1.0'?><Error>", "is an error message of the site"),
    "a GGUF file": (lambda: b"GGUF\3\0\0\0" + bytes(99), "is a GGUF file of quantised weights"),
    "gzip": (lambda: b"\x1f\x8b\x08" + bytes(99), "is a compressed archive; unpack it"),
    "7z": (lambda: b"7z\xbc\xaf\x27\x1c" + bytes(99), "is a compressed archive; unpack it"),
    "rar": (lambda: b"Rar!\x1a\7" + bytes(99), "is a compressed archive; unpack it"),
    "an archive of files": (lambda: zipped(b"", "mm.safetensors"), "is an archive of other files; unpack it"),
    "nothing": (lambda: b"", "is cut off or damaged"),
    "an empty tensor": (
        lambda: safetensors({KEY: {"dtype": "F32", "shape": [1, 0, 2**29], "data_offsets": [0, 0]}}),
        "has the empty tensor .* of shape .1, 0, 536870912.",
    ),
    "200,000 anchors": (lambda: own(anchors=MANY), "the metadata has .* characters, more than"),
    "a billion steps": (lambda: own(betas=BETAS | {"steps": 10**9}), "noise.steps. is 1000000000: .* less than"),
    "betas that are NaN": (lambda: own(betas=BETAS | {"start": float("nan")}), "noise.start. is nan"),
    "channels without end": (lambda: own(conditioning_channels=10**12), "conditioning_channels. is 1000000000000"),
    "an anchor without name": (lambda: own(anchors=[MANY[0] | {"name": ""}]), "anchors.0.name. is ''"),
    "a base that is a list": (lambda: own(base=[]), "base. is ..: input should be a valid string"),
    "a role of 100 kB": (lambda: own(role="x" * 10**5), "role. is 'x{70,80}...: input should be 'video'"),
    "an option that is no option": (lambda: own(modules={"conv": {"operations": 1}}), 'options of "conv" are wrong'),
    "brackets without end": (
        lambda: safetensors({"__metadata__": {"emu_video": "[" * 10**5}}),
        "the metadata is not JSON",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_refusals(name, tmp_path):
    content, reason = FILES[name]
    path = tmp_path / "file.ckpt"
    path.write_bytes(content())
    start = time.process_time()
    with pytest.raises(ValueError, match=reason) as error:
        load(path)
    assert time.process_time() - start < SECONDS
    message = str(error.value)
    assert message.startswith(str(path)) and len(message) < len(str(path)) + 400 and "\n" not in message


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.complex64, torch.bool, torch.float64, torch.int8])
def test_other_types_are_called_what_they_are(dtype, tmp_path):
    torch.save({key: tensor.to(dtype) for key, tensor in public.animatediff().items()}, tmp_path / "file.ckpt")
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(ValueError, match=f"{name}.*float16, bfloat16 or float32"):
        load(tmp_path / "file.ckpt")


@pytest.mark.parametrize("width", [2, 20, 48])
def test_widths_that_no_group_norm_has(width, tmp_path):
    torch.save(public.animatediff(widths=(width,) * 4), tmp_path / "file.ckpt")
    with pytest.raises(
        ValueError, match=f"{width} channels cannot be divided into the 32 groups.*; choose temporal layers"
    ):
        load(tmp_path / "file.ckpt")


@pytest.mark.parametrize("change", [lambda t: t.flatten(), lambda t: t.flatten()[0].clone()])
def test_shapes_of_another_rank(change, tmp_path):
    for tensors in (public.animatediff(), public.animatediff(positions=0), public.modelscope(), public.pia()):
        torch.save({key: change(tensor) for key, tensor in tensors.items()}, tmp_path / "file.ckpt")
        with pytest.raises(ValueError, match="file.ckpt: .*(shape|table)"):
            load(tmp_path / "file.ckpt")


@pytest.mark.parametrize(
    "prefix",
    ["module.", "unet.", "_orig_mod.", "model.diffusion_model.", "module._orig_mod.unet.", "model.module.", "net.",
     "ema_model.", "model_ema.diffusion_model.", "motion_module.", "generator."],
)  # fmt: skip
@pytest.mark.parametrize("container", ["", *CONTAINERS])
def test_prefixes_and_containers(prefix, container, tmp_path):
    tensors = {"a.weight": torch.ones(2), "b.bias": torch.zeros(3)}
    content = {f"{prefix}{key}": tensor for key, tensor in tensors.items()}
    content |= {"optimizer": {"state": {}}, "args": None, "epoch": 3}
    torch.save({container: content, "step": 3} if container else content, tmp_path / "file.ckpt")
    read_back = read(tmp_path / "file.ckpt").tensors
    assert read_back.keys() == tensors.keys() and all(torch.equal(read_back[key], tensors[key]) for key in tensors)


def test_trained_weights_come_before_their_average(tmp_path):
    trained, average = {"a.weight": torch.ones(2)}, {"a.weight": torch.zeros(2)}
    torch.save({"ema_state_dict": average, "state_dict": trained}, tmp_path / "file.ckpt")
    assert torch.equal(read(tmp_path / "file.ckpt").tensors["a.weight"], torch.ones(2))


def test_one_part_of_several_is_refused(tmp_path):
    path = tmp_path / "diffusion_pytorch_model-00001-of-00002.safetensors"
    path.write_bytes(safetensors({KEY: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}))
    with pytest.raises(ValueError, match="is one part of a file in several parts; merge them"):
        read(path)


def test_names_with_spaces_and_other_letters(tmp_path):
    for name in ("ünïcödé 動画 (1) [v2].ckpt", "x" * 240 + ".ckpt"):
        torch.save({"a": torch.ones(2)}, tmp_path / name)
        assert read(tmp_path / name).tensors.keys() == {"a"}


def test_one_key_under_two_prefixes_is_refused(tmp_path):
    torch.save({"module.a": torch.ones(2), "a": torch.zeros(2)}, tmp_path / "file.ckpt")
    with pytest.raises(ValueError, match="has a twice, with different prefixes"):
        read(tmp_path / "file.ckpt")
