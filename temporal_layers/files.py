"""Files of temporal layers: safetensors with one metadata entry `emu_video` (LayersInfo as JSON).

Every refusal is a ValueError whose message names the file, the key and what to do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .backbones import backbone_of, identify_base
from .info import LayersInfo
from .kinds import carries
from .layers import TemporalLayers

METADATA_KEY = "emu_video"
DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def save_layers(path: str | os.PathLike, state_dict: Mapping[str, Tensor], info: LayersInfo) -> None:
    """Write `state_dict` in the dtypes given. The file appears complete or not at all.

    Raises ValueError when the tensors are not those that `info` describes, or are not finite.
    """
    path = Path(path)
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in state_dict.items()}
    check_tensors(path, tensors, info)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(tensors, unfinished, metadata={METADATA_KEY: info.to_json()})
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def load_layers(path: str | os.PathLike) -> tuple[dict[str, Tensor], LayersInfo]:
    """Read a file of temporal layers. Raises ValueError for one that is damaged, foreign or incomplete."""
    path = Path(path)
    _check_format(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is cut off or damaged ({error}); fetch or export it again.") from None
    if METADATA_KEY not in metadata:
        raise ValueError(
            f'{path} has no metadata entry "{METADATA_KEY}", so it holds no temporal layers of Emu Video; '
            "choose a file of temporal layers."
        )
    try:
        info = LayersInfo.from_json(metadata[METADATA_KEY])
    except ValueError as error:
        raise ValueError(f"{path}: {error} Update Emu Video, or export the file again.") from None
    check_tensors(path, tensors, info)
    return tensors, info


def stated_role(path: str | os.PathLike) -> str:
    """Return the role that a file's metadata states, "" where it states none or cannot be read.

    Only the header is read and nothing is checked: use it to sort files, and `load_layers` to trust one.
    """
    try:
        with safe_open(path, framework="pt") as file:
            role = json.loads((file.metadata() or {})[METADATA_KEY])["role"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError):
        return ""
    return role if isinstance(role, str) else ""


def check_fits(unet: nn.Module, info: LayersInfo, path: str | os.PathLike) -> None:
    """Raise ValueError unless `unet` is the base and has the anchors that the file's `info` was made for."""
    base = identify_base(unet)
    if base != info.base:
        raise ValueError(
            f"{path} holds temporal layers for {info.base}, but the model is {base}; use a {info.base} model."
        )
    backbone = backbone_of(base)
    modules = dict(backbone.modules(unet))
    for anchor in info.anchors:
        if anchor.name not in modules or not carries(backbone, modules[anchor.name], anchor):
            raise ValueError(
                f"{path} hangs on {anchor.name} ({anchor.kind}, {anchor.channels} channels), which this "
                f"{base} model does not have; use temporal layers made for this model."
            )


def is_pickle(path: str | os.PathLike) -> bool:
    """Whether a file is what torch.save writes, by its first bytes; the ninth of a safetensors file is a brace."""
    with open(path, "rb") as file:
        start = file.read(9)
    return start.startswith((b"PK\x03\x04", b"\x80")) and start[8:] != b"{"


def _check_format(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"{path} does not exist; choose a file of temporal layers.")
    if is_pickle(path):
        raise ValueError(
            f"{path} is a pickle (.pt, .ckpt), which can run code when opened; convert it to safetensors first."
        )


def check_tensors(path: str | os.PathLike, tensors: Mapping[str, Tensor], info: LayersInfo) -> None:
    """Raise ValueError unless these are the tensors that `info` describes, and finite."""
    with torch.device("meta"):
        try:
            expected = TemporalLayers.of(info).state_dict()
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    if missing := expected.keys() - tensors.keys():
        raise ValueError(f"{path} lacks the key {min(missing)}; fetch or export it again.")
    for key, tensor in tensors.items():
        if key not in expected:
            raise ValueError(
                f"{path} has the surplus key {key}, which none of its anchors uses; fetch or export it again."
            )
        if tensor.shape != expected[key].shape:
            raise ValueError(
                f"{path}: {key} has shape {list(tensor.shape)} instead of {list(expected[key].shape)}; "
                "fetch or export it again."
            )
        if tensor.dtype not in DTYPES:
            raise ValueError(f"{path}: {key} is of {tensor.dtype}; save it as float16, bfloat16 or float32.")
        if not tensor.isfinite().all():
            raise ValueError(f"{path}: {key} holds values that are no numbers (NaN, infinity); use an earlier save.")
