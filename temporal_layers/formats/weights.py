"""Reading public files: tensors by key, whatever they are wrapped in, without running code from the file."""

from __future__ import annotations

import json
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..files import is_pickle

CONTAINERS = ("state_dict", "module", "controlnet")  # Lightning's and AnimateDiff's; DeepSpeed's; SparseCtrl's
BOOKKEEPING = {"animatediff_config", "epoch", "global_step"}
PREFIX = re.compile(r"^(module\.|model\.diffusion_model\.)+")
FOLDER_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors",
                "diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.bin")  # fmt: skip


@dataclass(frozen=True)
class Weights:
    """A public file: its tensors by key, without wrappers and prefixes.

    metadata: of a safetensors file. config: of the config.json beside a file of diffusers.
    """

    path: str
    tensors: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    def has(self, pattern: str) -> bool:
        """Whether a key matches the regular expression, from its start."""
        return any(re.match(pattern, key) for key in self.tensors)


def read(path: str | os.PathLike) -> Weights:
    """Weights of a file, or of a folder as diffusers saves one. Raises ValueError for one that holds none."""
    path = _file(Path(path))
    if is_pickle(path):
        tensors, metadata = _unpickled(path), {}
    else:
        tensors, metadata = _safetensors(path)
    return Weights(
        path=str(path),
        tensors={PREFIX.sub("", key): tensor for key, tensor in tensors.items() if key not in BOOKKEEPING},
        metadata=metadata,
        config=_config(path.with_name("config.json")) if path.name in FOLDER_FILES else {},
    )


def _file(path: Path) -> Path:
    if path.is_dir():
        path = next((path / name for name in FOLDER_FILES if (path / name).is_file()), path / FOLDER_FILES[0])
    if not path.is_file():
        raise ValueError(f"{path} does not exist; choose a file of temporal layers.")
    return path


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text("utf-8"))
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise ValueError(f"{path} is damaged; fetch it again.")
    return config


def _safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is cut off or damaged ({error}); fetch it again.") from None


def _unpickled(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} holds more than weights, which can run code when opened; convert it to safetensors first."
        ) from None
    except (RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path} is cut off or damaged ({error}); fetch it again.") from None
    while isinstance(content, Mapping) and any(isinstance(content.get(name), Mapping) for name in CONTAINERS):
        content = next(content[name] for name in CONTAINERS if isinstance(content.get(name), Mapping))
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds no weights by key; choose a file of temporal layers.")
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    for key in content.keys() - tensors.keys() - BOOKKEEPING:
        if isinstance(content[key], (int, float, str, bool)):
            continue
        raise ValueError(f"{path}: {key} is no tensor; fetch the file again, or convert it to safetensors.")
    return tensors
