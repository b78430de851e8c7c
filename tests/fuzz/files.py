"""Files of temporal layers and motion LoRAs, damaged in bytes, headers, metadata, pickles and tensors.

A file must load and then be whole, or be refused by a ValueError that names it, in one line.
"""

from __future__ import annotations

import copy
import json
import math
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from emu_video.temporal_layers.files import load_layers, save_layers
from emu_video.temporal_layers.formats import Options, convert, load
from emu_video.temporal_layers.formats.motion_lora import motion_lora
from emu_video.temporal_layers.info import LayersInfo
from emu_video.temporal_layers.reader import Weights, read
from emu_video.tests.temporal_layers.formats import public
from emu_video.tests.temporal_layers.small import UNet, info_for, trained_layers
from safetensors.torch import save_file
from torch import Tensor, nn

WIDTHS = {"sd15": (32,) * 4, "sdxl": (32,) * 3, "sd21": (64,) * 4}
NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**12, 10**5000, 0.0, -1.5, 1e308, math.nan, math.inf, "", "x" * 10_000,
    "0", "a.b", "..", "\0", "é\U0001f3ac", [], {}, [[]], [0], {"a": 1}, [None] * 1000, {"": {}}, "conv", "forward", 3.5,
)  # fmt: skip
DTYPES = (torch.float64, torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.uint8, torch.bfloat16)
OPTIONS = (Options(), Options(), Options("AnimateLCM"), Options("", "clip", "clip"))
WEIGHTS = {"own": 5, "image": 2, "ModelScope": 0.2, "original": 0.2, "whole": 0.5}  # others 1; large files are slow
FEW = 12  # tensors of most files whose bytes are damaged: the damage is then in the header or the pickle
HUGE = 2**28  # values; a tensor of one value that is shared by as many takes no memory until it is copied


class Corpus(NamedTuple):
    """files: tensors and metadata by name. loras: the same. info: of the layers that motion LoRAs are put on."""

    files: dict[str, tuple[dict[str, Tensor], dict[str, str]]]
    loras: dict[str, tuple[dict[str, Tensor], dict[str, str]]]
    info: LayersInfo


def corpus(folder: Path) -> Corpus:
    torch.set_num_threads(1)
    sd15, sdxl = WIDTHS["sd15"], WIDTHS["sdxl"]
    layers = trained_layers(UNet())
    for module in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d):
        module.reset_parameters = lambda _: None  # from here on, modules are made for the shapes of their weights alone
    files = {
        "v1": public.animatediff(sd15, **public.V1),
        "v2": public.animatediff(sd15, **public.V2),
        "SDXL": public.animatediff(sdxl),
        "HotshotXL": public.hotshotxl(sdxl),
        "PIA": public.pia(sd15),
        "FancyVideo": public.fancyvideo(sd15),
        "ModelScope": public.modelscope(WIDTHS["sd21"]),
        "original": public.modelscope_original(public.modelscope(WIDTHS["sd21"])),
        "whole": public.spatial() | public.animatediff(sd15),
        "image": public.spatial(),
    }
    loras = {"motion": public.motion_lora(sd15), "both": public.motion_lora(sd15) | public.domain_adapter(sd15)}
    loras["alpha"] = loras["motion"] | {
        key.replace(".down.weight", ".alpha"): torch.tensor(4.0) for key in loras["motion"] if ".down." in key
    }
    known = {name: (tensors, {}) for name, tensors in files.items()}
    known["own"] = (layers.state_dict(), {"emu_video": info_for(layers).to_json()})
    _, info = convert(Weights("v3", public.animatediff(sd15)))
    return Corpus(known, {name: (tensors, {}) for name, tensors in loras.items()}, info)


def run(corpus: Corpus, random: Random, folder: Path) -> str:
    is_lora = random.random() < 0.25
    choice = corpus.loras if is_lora else corpus.files
    name = random.choices(list(choice), [WEIGHTS.get(name, 1) for name in choice])[0]
    tensors, metadata = dict(choice[name][0]), dict(choice[name][1])
    is_damaged = random.random() < 0.7
    if is_damaged and len(tensors) > FEW and random.random() < 0.9:
        tensors = {key: tensors[key] for key in random.sample(sorted(tensors), FEW)}
    path = folder / random.choice(("file.safetensors", "file.ckpt", "diffusion_pytorch_model.safetensors"))
    for _ in range(random.choice((0, 1, 1, 2))):
        random.choice(TENSOR_CHANGES)(random, tensors)
    if "emu_video" in metadata and random.random() < 0.7:
        metadata["emu_video"] = changed_json(random, metadata["emu_video"])
    write(random, path, tensors, metadata)
    if is_damaged:
        random.choice(BYTE_CHANGES)(random, path)
    if random.random() < 0.3:
        config = {"motion_num_attention_heads": 8, "motion_max_seq_length": 32}
        path.with_name("config.json").write_text(changed_json(random, json.dumps(config)), errors="replace")
    try:
        use_lora(path, corpus.info) if is_lora else use_layers(random, path)
    except ValueError as error:
        check_sentence(path, error)
        return "refused"
    return "ok"


def use_layers(random: Random, path: Path) -> None:
    state_dict, info = load(path, random.choice(OPTIONS))
    assert all(tensor.isfinite().all() for tensor in state_dict.values())
    if random.random() < 0.7:
        return
    again = path.with_name("again.safetensors")
    save_layers(again, state_dict, info)
    assert repr(load_layers(again)[1]) == repr(info)  # notes of a training run may hold NaN


def use_lora(path: Path, info: LayersInfo) -> None:
    for change in motion_lora(read(path), info).changes.values():
        assert (change.up.float() @ change.down.float()).ndim == 2  # ComfyUI multiplies in one dtype


def check_sentence(path: Path, error: ValueError) -> None:
    """A refusal is the project's: of one type, one line, with the file's or folder's name."""
    text = str(error)
    if type(error) is not ValueError or "\n" in text or str(path.parent) not in text or len(text) > 1500:
        raise AssertionError(f"a raw {type(error).__name__}: {text[:500]}") from error


def write(random: Random, path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    form = "safetensors" if metadata or random.random() < 0.4 else random.choice(("zip", "zip", "legacy", "deflated"))
    if form == "safetensors":
        save_file({key: tensor.contiguous() for key, tensor in plain(tensors).items()}, path, metadata=metadata or None)
        return
    content: Any = tensors
    for _ in range(random.choice((0, 0, 1, 2))):
        content = {random.choice(("state_dict", "module", "model", "controlnet", "weights")): content, "epoch": 3}
    if random.random() < 0.2:
        content = random.choice((content, [content], None, 3, {"state_dict": None}, {**tensors, 5: torch.ones(1)}))
    torch.save(content, path, _use_new_zipfile_serialization=form != "legacy")
    if form == "deflated":
        deflate(path)


def plain(tensors: dict[Any, Any]) -> dict[str, Tensor]:
    """Those that safetensors can hold."""
    return {
        str(key)[:200].replace("\0", ""): tensor.clone()
        for key, tensor in tensors.items()
        if isinstance(tensor, Tensor) and tensor.numel() < HUGE
    }


def deflate(path: Path) -> None:
    """Compress one entry of an archive, its pickle."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            compression = zipfile.ZIP_DEFLATED if name.endswith("data.pkl") else zipfile.ZIP_STORED
            archive.writestr(name, content, compression)


def changed_json(random: Random, text: str) -> str:
    """The text with one value anywhere in it replaced, added or removed."""
    root = [json.loads(text)]
    for _ in range(random.choice((1, 1, 2))):
        places: list[tuple[Any, Any]] = [(root, 0)]
        for holder, key in places:
            value = holder[key]
            places += (
                [(value, k) for k in (value if isinstance(value, dict) else range(len(value)))]
                if isinstance(value, dict | list)
                else []
            )
        holder, key = random.choice(places)
        if isinstance(holder, dict) and random.random() < 0.3:
            holder[f"{key}x"] = holder.pop(key) if random.random() < 0.5 else 1
        else:
            holder[key] = copy.deepcopy(random.choice((*NASTY, "[" * 5000)))
    try:
        return json.dumps(root[0])
    except ValueError:  # too many digits
        return '{"base": 1' + "0" * 5000 + "}"


def _pick(random: Random, tensors: dict[str, Tensor]) -> str:
    return random.choice(sorted(tensors, key=str)) if tensors else ""


def _drop(random: Random, tensors: dict[str, Tensor]) -> None:
    tensors.pop(_pick(random, tensors), None)


def _rename(random: Random, tensors: dict[str, Tensor]) -> None:
    key = _pick(random, tensors)
    if key:
        new = random.choice((key[:-1], f"module.{key}", f"unet.{key}", key.replace("0", "9" * 40), key * 20, "", "x"))
        tensors[new] = tensors.pop(key)


def _add(random: Random, tensors: dict[str, Tensor]) -> None:
    tensors[random.choice(("conv_in.weight", "a", "conv_in.bias", "img_encoder.x", "epoch"))] = torch.ones(2, 3)


def _prefix(random: Random, tensors: dict[str, Tensor]) -> None:
    prefix = random.choice(("module.", "unet.", "_orig_mod.", "model.diffusion_model.", "lora_unet_"))
    for key in list(tensors):
        tensors[f"{prefix}{key}"] = tensors.pop(key)


def _values(random: Random, tensors: dict[str, Tensor]) -> None:
    key = _pick(random, tensors)
    if key and tensors[key].numel() < HUGE and tensors[key].dtype == torch.float32:
        tensors[key] = torch.full_like(tensors[key], random.choice((math.nan, math.inf, 0.0, 1e30)))


def _shape(random: Random, tensors: dict[str, Tensor]) -> None:
    key = _pick(random, tensors)
    if key and tensors[key].ndim and tensors[key].numel():
        t = tensors[key]
        tensors[key] = random.choice(
            (t.flatten(), t.flatten()[0].clone(), t[None], t[:1], t[:0], t.unsqueeze(-1), torch.ones(1).expand(2**40))
        )


def _dtype(random: Random, tensors: dict[str, Tensor]) -> None:
    dtype, all_of_them = random.choice(DTYPES), random.random() < 0.5
    for key in list(tensors) if all_of_them else [_pick(random, tensors)]:
        if key and tensors[key].numel() < HUGE and not tensors[key].is_complex():
            tensors[key] = tensors[key].to(dtype)


TENSOR_CHANGES: tuple[Callable[[Random, dict[str, Tensor]], None], ...] = (
    _drop, _rename, _add, _prefix, _values, _shape, _dtype,
)  # fmt: skip


def _flip(random: Random, path: Path) -> None:
    content = bytearray(path.read_bytes())
    near = random.choice((100, 5000, len(content)))
    for _ in range(random.choice((1, 3, 30))):
        content[random.randrange(min(near, len(content)))] = random.randrange(256)
    path.write_bytes(content)


def _cut(random: Random, path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: random.choice((0, 1, 8, 9, 100, random.randrange(len(content))))])


def _splice(random: Random, path: Path) -> None:
    content, place = path.read_bytes(), random.randrange(5000)
    path.write_bytes(
        content[:place] + random.choice((b"", b"\0" * 9, b"(" * 1000)) + content[place + random.randrange(9) :]
    )


def _header(random: Random, path: Path) -> None:
    """Change a safetensors header, with its length made right."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    if not 0 < length < 10**7:
        return _flip(random, path)
    try:
        text = changed_json(random, content[8 : 8 + length].decode()).encode(errors="replace")
    except ValueError:
        return _flip(random, path)
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    return None


def _pickle(random: Random, path: Path) -> None:
    """Change the pickle within an archive, or write another."""
    if not zipfile.is_zipfile(path):
        path.write_bytes(b"\x80\x02" + random.randbytes(random.randrange(1, 200)) + b".")
        return
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    change = random.choice((_changed_bytes, _nested, _random_object))
    entries = {name: change(random, text) if name.endswith("data.pkl") else text for name, text in entries.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def _changed_bytes(random: Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice((1, 2, 10))):
        changed[random.randrange(len(changed))] = random.choice((random.randrange(256), ord("("), ord("."), ord("R")))
    return bytes(changed)


def _nested(random: Random, content: bytes) -> bytes:
    return b"\x80\x02" + random.choice((b"(", b"]", b"}", b"](", b"I1\n")) * random.choice((10, 10**5)) + content[2:]


def _random_object(random: Random, content: bytes) -> bytes:
    value = random.choice([v for v in NASTY if v != 10**5000])
    return pickle.dumps(random.choice((value, {"state_dict": value}, {str(i): value for i in range(3)})), protocol=2)


BYTE_CHANGES: tuple[Callable[[Random, Path], None], ...] = (_flip, _cut, _splice, _header, _header, _pickle)
