"""Digests that identify models without reading all of their weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import comfy.model_patcher
import torch
from torch import Tensor, nn

SAMPLES = 16  # values read from every tensor


def fingerprint(module: nn.Module, patcher: comfy.model_patcher.ModelPatcher | None = None) -> str:
    """Return a digest of names, shapes and sixteen evenly spaced numbers of every weight of `module`.

    patcher: its patches (LoRAs) are included. ComfyUI may have applied them to `module` or not, so the weights before
    are read from its backup. A few values per weight are enough, because finetunes differ in all weights.
    """
    weights = module.state_dict()
    if patcher is not None:
        prefixes = [f"{name}." if name else "" for name, each in patcher.model.named_modules() if each is module]
        keys = {f"{prefix}{key}": key for prefix in prefixes for key in weights}  # none for a module of another model
        weights = weights | {keys[key]: saved.weight for key, saved in patcher.backup.items() if key in keys}
    state = _digest(weights)
    for key, patches in sorted(getattr(patcher, "patches", {}).items(), key=lambda item: str(item[0])):
        for number, found in enumerate(_leaves(patches)):
            _add(state, f"{key}.{number}", found)
    return state.hexdigest()


def fingerprint_of(state_dict: Mapping[str, Tensor]) -> str:
    """Return the digest of `fingerprint` for loose weights."""
    return _digest(state_dict).hexdigest()


def _digest(state_dict: Mapping[str, Tensor]) -> Any:
    state = hashlib.sha256()
    for key, tensor in sorted(state_dict.items()):
        _add(state, key, tensor)
    return state


def _add(state: Any, key: str, value: object) -> None:
    if not isinstance(value, Tensor):
        state.update(f"{key}={value}".encode())
        return
    state.update(f"{key}{tuple(value.shape)}".encode())
    if value.numel():
        last = value.numel() - 1
        places = torch.linspace(0, last, min(SAMPLES, value.numel())).round().long()
        places = places.clamp(max=last).to(value.device)  # float32 rounds large numbers up
        state.update(value.detach().reshape(-1)[places].to("cpu", torch.float32).numpy().tobytes())


def _leaves(value: Any) -> Iterator[object]:
    """Yield tensors, numbers and strings inside lists, tuples, dicts and weight adapters."""
    if isinstance(value, (Tensor, str, int, float, bool, type(None))):
        yield value
    elif isinstance(value, dict):
        for _, each in sorted(value.items(), key=lambda item: str(item[0])):
            yield from _leaves(each)
    elif isinstance(value, (list, tuple, set)):
        for each in value:
            yield from _leaves(each)
    elif hasattr(value, "weights"):
        yield from _leaves(value.weights)
