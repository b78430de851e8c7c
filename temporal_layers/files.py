"""Files of temporal layers: safetensors with one metadata entry `emu_video` (LayersInfo as JSON).

All errors are ValueErrors that name the file, the key and what to do.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .backbones import backbone_of, identify_base
from .info import LayersInfo
from .kinds import carries
from .layers import TemporalLayers
from .reader import Weights, is_pickle, read

METADATA_KEY = "emu_video"
DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def save_layers(path: str | os.PathLike, state_dict: Mapping[str, Tensor], info: LayersInfo) -> None:
    """Write `state_dict` without changing dtypes. The file appears complete or not at all.

    Raises ValueError if the tensors differ from those that `info` describes, or are not finite.
    """
    path = Path(path)
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in state_dict.items()}
    check_tensors(path, tensors, info)
    with written_whole(path) as unfinished:
        save_file(tensors, unfinished, {METADATA_KEY: info.to_json()})


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a name to write to, and rename the file to `path` at the end.

    The file at `path` is the old one or the new one, complete, even after kill -9, a full disk or a power cut. What is
    unfinished lies in a folder `.NAME.PROCESS.tmp`, because safetensors writes a temporary file beside the name that it
    is given, and leaves it if the process is killed.
    """
    folder = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    folder.mkdir(exist_ok=True)
    try:
        unfinished, empty = folder / "unfinished", folder / "empty"
        yield unfinished
        empty.touch()
        shutil.copymode(empty, unfinished)  # safetensors lets only the owner read its files
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def load_layers(path: str | os.PathLike) -> tuple[dict[str, Tensor], LayersInfo]:
    """Read a file in the pack's own format. Raises ValueError for a damaged, incomplete or other file."""
    path = Path(path)
    if path.is_file() and is_pickle(path):
        raise ValueError(
            f"{path} is a pickle (.pt, .ckpt), which can run code when opened; convert it to safetensors first."
        )
    return own_layers(read(path, keep_prefixes=is_own))


def is_own(metadata: Mapping[str, str]) -> bool:
    """Return whether a safetensors file with this metadata is in Emu Video's own format."""
    return METADATA_KEY in metadata


def own_layers(weights: Weights) -> tuple[dict[str, Tensor], LayersInfo]:
    """Return the layers of a file in Emu Video's own format. Raises ValueError for any other file."""
    info = _info(weights.path, weights.metadata)
    check_tensors(weights.path, weights.tensors, info)
    return weights.tensors, info


def read_info(path: str | os.PathLike) -> LayersInfo:
    """Return the info of a file in the pack's own format, without reading its weights.

    Raises ValueError for a damaged or other file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return _info(path, file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read ({error}): choose another file, or make it again.") from None


def _info(path: str | os.PathLike, metadata: Mapping[str, str]) -> LayersInfo:
    if not is_own(metadata):
        raise ValueError(
            f'{path} has no metadata entry "{METADATA_KEY}", so it is not a file in Emu Video\'s own format; '
            "choose a file of temporal layers."
        )
    try:
        return LayersInfo.from_json(metadata[METADATA_KEY])
    except ValueError as error:
        raise ValueError(f"{path}: {error} Update Emu Video, or export the file again.") from None


def stated_role(path: str | os.PathLike) -> str:
    """Return the role in a file's metadata, or "" if it has none or cannot be read.

    Only the header is read and nothing is checked, so use this only to sort files.
    """
    try:
        with safe_open(path, framework="pt") as file:
            role = json.loads((file.metadata() or {})[METADATA_KEY])["role"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError):
        return ""
    return role if isinstance(role, str) else ""


def check_fits(unet: nn.Module, info: LayersInfo, path: str | os.PathLike) -> None:
    """Raise ValueError unless `unet` is the base that `info` states and has all its anchors."""
    base = identify_base(unet)
    if base != info.base:
        raise ValueError(
            f"{path} contains temporal layers for {info.base}, but the model is {base}; use a {info.base} model."
        )
    backbone = backbone_of(base)
    modules = dict(backbone.modules(unet))
    for anchor in info.anchors:
        if anchor.name not in modules or not carries(backbone, modules[anchor.name], anchor):
            raise ValueError(
                f"{path} has a module for {anchor.name} ({anchor.kind}, {anchor.channels} channels), which this "
                f"{base} model does not have. Use temporal layers made for this model."
            )


def check_tensors(path: str | os.PathLike, tensors: Mapping[str, Tensor], info: LayersInfo) -> None:
    """Raise ValueError unless the tensors are finite and are those that `info` describes."""
    with torch.device("meta"):
        try:
            expected = TemporalLayers.of(info).state_dict()
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    if missing := expected.keys() - tensors.keys():
        raise ValueError(f"{path} is missing the key {min(missing)}. Download or export it again.")
    if surplus := tensors.keys() - expected.keys():
        raise ValueError(
            f"{path} has the unknown key {min(surplus)}, which does not belong to any of its anchors. Download or "
            f"export it again."
        )
    for key, tensor in tensors.items():
        if tensor.shape != expected[key].shape:
            raise ValueError(
                f"{path}: {key} has shape {list(tensor.shape)} instead of {list(expected[key].shape)}; "
                "download or export it again."
            )
        check_values(path, key, tensor)


def check_values(path: str | os.PathLike, key: str, tensor: Tensor) -> None:
    """Raise ValueError for a tensor that is not float16, bfloat16 or float32, or not finite."""
    check_dtype(path, key, tensor)
    if not tensor.isfinite().all():
        raise ValueError(
            f"{path}: {key} contains NaN or infinity, so the file is damaged; use an earlier version of the file."
        )


def check_dtype(path: str | os.PathLike, key: str, tensor: Tensor) -> None:
    """Raise ValueError for a tensor that is not float16, bfloat16 or float32."""
    name = str(tensor.dtype).removeprefix("torch.")
    if name.startswith("float8"):
        raise ValueError(f"{path} is stored in fp8 ({key} is {name}); use the file in float16, bfloat16 or float32.")
    if tensor.dtype not in DTYPES:
        raise ValueError(f"{path}: {key} is of type {name}; save it as float16, bfloat16 or float32.")
