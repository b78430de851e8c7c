"""Read files of weights in all known containers, without running code from the file.

Files are not trusted. Sizes are checked before anything is allocated, and each exception that a library raises for a
damaged file becomes a ValueError with one sentence.
"""

from __future__ import annotations

import codecs
import io
import json
import mmap
import os
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import safe_open
from torch import Tensor

from .sentences import short, shown

CONTAINERS = (
    "state_dict", "module", "model", "motion_module", "controlnet", "model_state_dict", "unet_state_dict", "unet",
    "ema_state_dict", "net", "weights", "params_ema", "params",
)  # fmt: skip
"""Keys under which trainers store the state dict: AnimateDiff, Lightning, DeepSpeed, plain loops, SparseCtrl, BasicSR.

The first one that a file has is read, so trained weights come before their EMA in files that have both.
"""
BOOKKEEPING = {"animatediff_config", "epoch", "global_step", "step", "optimizer", "lr_scheduler", "scheduler", "args"}
"""Other keys that trainers store beside the weights. They are ignored."""
PREFIX = re.compile(
    r"^((module|_orig_mod|model|diffusion_model|unet|net|network|motion_module|ema|ema_model|model_ema|generator)\.)+"
)
FOLDER_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors",
                "diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.bin")  # fmt: skip
NOT_WEIGHTS = {
    r"<!doctype|<html": "is a web page, not weights; download the file itself",
    r"version https://git-lfs": "is a Git LFS pointer, not weights; download the file itself, or run git lfs pull",
    r'<\?xml|\{\s*"error"|\{\s*"message"|entry not found|invalid username|access to model|unauthorized': (
        "is an error message of the site that it was downloaded from; log in there and download the file itself"
    ),
    r"gguf": "is a GGUF file of quantised weights; use the file in safetensors",
    "7z\xbc\xaf|rar!|\x1f\x8b": "is a compressed archive; unpack it",
}
"""Start of a file, in lower case -> what it is and what to do."""
SHARD = re.compile(r"-\d+-of-\d+\.\w+$")
MAX_TENSORS = 20_000  # a whole SDXL checkpoint has 2,515
MAX_KEY = 500  # characters
MAX_PICKLE = 2**25  # bytes of the pickle in a .ckpt without its tensors; a whole SDXL checkpoint has 0.5 MB
MAX_OPCODES = 1_000_000  # in a pickle; a whole SDXL checkpoint has 0.1 million
MAX_CONFIG = 2**20  # bytes of a config.json
PICKLES_IN_A_LEGACY_FILE = 5


@dataclass(frozen=True)
class Weights:
    """Contents of a file of weights: its tensors by key, without containers and prefixes.

    metadata: metadata of a safetensors file. config: contents of the config.json beside a diffusers file.
    """

    path: str
    tensors: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    def has(self, pattern: str) -> bool:
        """Return whether a key matches the regular expression, from its start."""
        return any(re.match(pattern, key) for key in self.tensors)


def read(path: str | os.PathLike, keep_prefixes: Callable[[Mapping[str, str]], bool] = lambda _: False) -> Weights:
    """Return the weights of a file, or of a folder saved by diffusers. Raises ValueError if it has no weights.

    keep_prefixes: receives the file's metadata and returns whether prefixes of keys are kept.
    """
    path = _file(Path(path))
    if is_pickle(path):
        tensors, metadata = _checked(path, _unpickled), {}
    else:
        tensors, metadata = _checked(path, _safetensors)
    for key, tensor in tensors.items():
        _check_tensor(path, key, tensor)
    return Weights(
        path=str(path),
        tensors=tensors if keep_prefixes(metadata) else _without_prefixes(path, tensors),
        metadata=metadata,
        config=_checked(path.with_name("config.json"), _config) if path.name in FOLDER_FILES else {},
    )


def is_pickle(path: str | os.PathLike) -> bool:
    """Return whether torch.save wrote the file, by its first bytes. Byte 9 of a safetensors file is a brace."""
    with open(path, "rb") as file:
        start = file.read(9)
    return start.startswith((b"PK\x03\x04", b"\x80")) and start[8:] != b"{"


def _checked(path: Path, reader: Callable[[Path], Any]) -> Any:
    """Return `reader(path)`. Any exception becomes a ValueError with the file, the reason and what to do."""
    try:
        return reader(path)
    except _Refused as refusal:
        raise ValueError(f"{path} {refusal}") from None
    except pickle.UnpicklingError as error:
        if re.search("global|class|REDUCE", str(error)):
            raise ValueError(
                f"{path} contains more than weights, so opening it could run code; convert it to safetensors first."
            ) from None
        raise _damaged(path, error) from None
    except MemoryError:
        raise ValueError(f"{path} does not fit into the free memory; close other programs.") from None
    except Exception as error:  # struct.error, IndexError, KeyError, UnicodeDecodeError and others
        raise _damaged(path, error) from None


class _Refused(Exception):
    """Reason why a file is refused. The message continues a sentence that begins with the file name."""


def _damaged(path: Path, error: Exception) -> ValueError:
    reason = short(str(error) or type(error).__name__)
    return ValueError(f"{path} is cut off or damaged ({reason}); download or export it again.")


def _file(path: Path) -> Path:
    if path.is_dir():
        path = next((path / name for name in FOLDER_FILES if (path / name).is_file()), path / FOLDER_FILES[0])
    if not path.is_file():
        raise ValueError(f"{path} does not exist; choose a file of temporal layers.")
    if SHARD.search(path.name):
        raise ValueError(f"{path} is one part of a file in several parts; merge them into one file of safetensors.")
    with open(path, "rb") as file:
        start = file.read(64).removeprefix(codecs.BOM_UTF8).decode("latin-1").lstrip(" \t\r\n").lower()
    for pattern, reason in NOT_WEIGHTS.items():
        if re.match(pattern, start):
            raise ValueError(f"{path} {reason}.")
    return path


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    if path.stat().st_size > MAX_CONFIG:
        raise _Refused(f"has more than {MAX_CONFIG} bytes, so it is not a model configuration; use the original file.")
    config = json.loads(path.read_text("utf-8"))
    if not isinstance(config, dict):
        raise _Refused("is not a JSON object; use the original file.")
    return config


def _safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        keys = list(file.keys())
        _check_count(len(keys))
        for key in keys:
            _check_shape(key, file.get_slice(key).get_shape())
        return {key: file.get_tensor(key) for key in keys}, file.metadata() or {}


def _unpickled(path: Path) -> dict[str, Tensor]:
    is_zip = zipfile.is_zipfile(path)
    if is_zip:
        _check_zip(path)
    else:
        _check_legacy(path)
    content = _unwrapped(torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip))
    _check_count(len(content))
    tensors = {}
    for key, value in content.items():
        if not isinstance(key, str):
            raise _Refused(f"has the key {shown(key)}, which is not a text; choose a file of temporal layers.")
        if isinstance(value, Tensor):
            tensors[key] = value
        elif key not in BOOKKEEPING and not isinstance(value, int | float | str | bool | None):
            raise _Refused(f"contains {short(key)}, which is not a tensor; convert the file to safetensors.")
    return tensors


def _unwrapped(content: Any) -> Mapping[Any, Any]:
    """Return the state dict that is nested in a trainer's checkpoint."""
    for _ in range(2 * len(CONTAINERS)):
        inner = next((content[name] for name in CONTAINERS if isinstance(_entry(content, name), Mapping)), None)
        if inner is None:
            break
        content = inner
    else:
        raise _Refused("contains itself as an entry; use the original file.")
    if not isinstance(content, Mapping):
        raise _Refused("has no state dict; choose a file of temporal layers.")
    return content


def _entry(content: Any, name: str) -> Any:
    return content.get(name) if isinstance(content, Mapping) else None


def _check_zip(path: Path) -> None:
    """Refuse compressed archives and wrong sizes. torch maps the file into memory, so entries must be uncompressed."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        _check_count(len(entries))
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise _Refused("is a compressed archive; unpack it, or convert it to safetensors.")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise _Refused("states larger sizes than the file has; download it again.")
        pickles = [entry for entry in entries if entry.filename.endswith("data.pkl")]
        if not pickles:
            raise _Refused("is an archive of other files; unpack it.")
        for entry in pickles:
            if entry.file_size > MAX_PICKLE:
                raise _Refused(f"has a pickle of more than {MAX_PICKLE} bytes; convert it to safetensors.")
            _count_opcodes(io.BytesIO(archive.read(entry)), 1)


def _check_legacy(path: Path) -> None:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        _count_opcodes(content, PICKLES_IN_A_LEGACY_FILE)


def _count_opcodes(stream: IO[bytes] | mmap.mmap, pickles: int) -> None:
    """Refuse pickles that would take long to load. Raises an exception for damaged ones."""
    count = 0
    for _ in range(pickles):
        for _ in pickletools.genops(stream):  # pyright: ignore[reportArgumentType]
            count += 1
            if count > MAX_OPCODES:
                raise _Refused(f"has a pickle of more than {MAX_OPCODES} instructions; convert it to safetensors.")


def _check_count(count: int) -> None:
    if count > MAX_TENSORS:
        raise _Refused(
            f"has {count} entries, more than any image or video model has; choose a file of temporal layers."
        )


def _check_shape(key: str, shape: list[int] | torch.Size) -> None:
    if len(key) > MAX_KEY:
        raise _Refused(f"has a key of {len(key)} characters ({short(key, 40)}); choose a file of temporal layers.")
    if not key.isprintable():
        raise _Refused(f"has the damaged key {shown(key)}; download it again.")
    if 0 in shape:
        raise _Refused(f"has the empty tensor {short(key)} of shape {short(str(list(shape)))}; download it again.")


def _check_tensor(path: Path, key: str, tensor: Tensor) -> None:
    """Raise ValueError for a tensor that is not dense, on the CPU and complete."""
    try:
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized or tensor.is_nested:
            kind = f"{tensor.layout}, {tensor.device.type}".removeprefix("torch.")
            raise _Refused(f"has {short(key)}, which is not a plain tensor ({kind}); save the file with plain tensors.")
        _check_shape(key, tensor.shape)
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise _Refused(
                f"has {short(key)} of shape {list(tensor.shape)}, but fewer values than that; download it again."
            )
    except _Refused as refusal:
        raise ValueError(f"{path} {refusal}") from None


def _without_prefixes(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    plain: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name = PREFIX.sub("", key)
        if name in BOOKKEEPING:
            continue
        if name in plain:
            raise ValueError(f"{path} has {name} twice, with different prefixes; keep only one of them in the file.")
        plain[name] = tensor
    return plain
