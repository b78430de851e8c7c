"""Checks of what a node receives through its links.

ComfyUI compares only the types of linked sockets. A constant of an API prompt at a link input, and whatever other packs
put behind a type, reach the node unchecked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..diffusion.windows import Joinable


class Wanted(NamedTuple):
    """Requirement of an input type.

    name: as in a sentence. is_one: whether a value is of the type. fault: what is wrong with one, or "". advice: what
    to connect.
    """

    name: str
    is_one: Callable[[Any], bool]
    advice: str
    fault: Callable[[Any], str] = lambda _: ""


def check_inputs(node: str, inputs: Iterable[Any], values: Mapping[str, Any], listed: bool = False) -> None:
    """Raise ValueError for a value that the node cannot use.

    Args:
        node: its display name.
        inputs: of its schema. Those of types that are not in `WANTED` are not checked.
        values: {input: value}.
        listed: whether each value is a list of values.
    """
    for each in inputs:
        wanted = [WANTED[kind] for kind in each.get_io_type().split(",") if kind in WANTED]
        if each.id not in values or not wanted:
            continue
        for value in values[each.id] if listed else (values[each.id],):
            if fault := _fault(wanted, value) or _widget_fault(each, value):
                advice = " or ".join(want.advice for want in wanted)
                raise ValueError(f"The input {each.id} of {node} {fault}: {advice}.")


def _fault(wanted: Iterable[Wanted], value: Any) -> str:
    fitting = [want for want in wanted if want.is_one(value)]
    if not fitting:
        return f"is {_described(value)}, not {' or '.join(want.name for want in wanted)}"
    faults = [want.fault(value) for want in fitting]
    return "" if "" in faults else faults[0]


def _widget_fault(widget: Any, value: Any) -> str:
    """Compare a value that a link gives to a widget as ComfyUI compares one that is typed in.

    Lists of files have no default; their names are looked up when read.
    """
    options, default = getattr(widget, "options", None), getattr(widget, "default", None)
    if options and default is not None:
        return "" if value in options else f"is {_described(value)}, not one of {', '.join(map(str, options))}"
    lowest, highest = getattr(widget, "min", None), getattr(widget, "max", None)
    if not isinstance(value, Real) or not math.isfinite(value):  # the nodes refuse NaN and infinity
        return ""
    if highest is not None and value > highest:
        return f"is {_described(value)}, above the limit of {highest}"
    if lowest is not None and value < min(lowest, 0):  # of other low numbers the nodes say why
        return f"is {_described(value)}, below the limit of {lowest}"
    return ""


def _described(value: Any) -> str:
    if value is None:
        return "empty (None)"
    if isinstance(value, int | float):
        return f"the number {value}" if isinstance(value, float) or abs(value) < 10**20 else "a very large number"
    if isinstance(value, str):
        return f'the text "{value[:40]}"'
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}"
    if isinstance(value, list | tuple | dict):
        return f"a {type(value).__name__} of {len(value)} entries"
    return f"of the class {type(value).__name__}"


def _conditioning_fault(value: list) -> str:
    if not value:
        return "has no entries"
    for entry in value:
        if not isinstance(entry, list | tuple) or len(entry) != 2 or not isinstance(entry[1], dict):
            return "has an entry that is not a text with its options"
        text = entry[0]
        if not isinstance(text, Tensor) or text.ndim != 3 or 0 in text.shape:
            return f"has a text that is {_described(text)}, not one of shape [texts, tokens, width]"
        for name in ("strength", "mask_strength"):
            if not math.isfinite(entry[1].get(name, 1.0)):
                return f"has the {name.replace('_', ' ')} {entry[1][name]}"
        if not _is_finite(entry[1].get("mask")):
            return "has a mask with values that are NaN or infinite"
        if not _is_finite(text):
            return "has a text with values that are NaN or infinite"
    return ""


def _latent_fault(value: dict) -> str:
    samples = value["samples"]
    if samples.is_nested or samples.ndim == 5:
        return "is a whole video of a video model, not a batch of frames"
    if not _is_finite(value.get("noise_mask")):
        return "has a noise mask with values that are NaN or infinite"
    return _frames_fault(samples)


def _frames_fault(value: Tensor) -> str:
    if value.ndim != 4:
        return f"has shape {list(value.shape)}, which is not a batch of frames"
    return _values_fault(value)


def _mask_fault(value: Tensor) -> str:
    if not 2 <= value.ndim <= 4:
        return f"has shape {list(value.shape)}, which is not [masks, height, width]"
    return _values_fault(value)


def _values_fault(value: Tensor) -> str:
    if 0 in value.shape:
        return f"is empty (shape {list(value.shape)})"
    if not value.is_floating_point():
        return f"has values of the type {str(value.dtype).removeprefix('torch.')}, not numbers with a fraction"
    return "" if _is_finite(value) else "has values that are NaN or infinite"


def _is_finite(value: Any) -> bool:
    """Return whether a tensor has no value that is NaN or infinite, in one pass and without a copy.

    A value that is not a tensor, or a tensor without values, counts as finite.
    """
    return not isinstance(value, Tensor) or not value.numel() or all(end.isfinite() for end in torch.aminmax(value))


def _is_floats(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, Real) for each in value)


def _has(*methods: str) -> Callable[[Any], bool]:
    """Return a test of classes by their methods, because other packs have VAEs and CLIPs of their own.

    A checkpoint without a VAE or CLIP gives None, which the nodes refuse where they use it.
    """
    return lambda value: value is None or all(hasattr(value, method) for method in methods)


def _is_latent(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("samples"), Tensor)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


WANTED = {
    "MODEL": Wanted(
        "a MODEL",
        lambda value: isinstance(value, ModelPatcher),
        "connect the MODEL output of Load Checkpoint, Load Temporal Layers or a node behind them",
    ),
    "VAE": Wanted(
        "a VAE", _has("encode", "spacial_compression_encode"), "connect the VAE output of Load Checkpoint or Load VAE"
    ),
    "CLIP": Wanted("a CLIP", _has("tokenize"), "connect the CLIP output of Load Checkpoint or Load CLIP"),
    "CONDITIONING": Wanted(
        "a CONDITIONING",
        lambda value: isinstance(value, list | tuple),
        "connect CLIP Text Encode or a conditioning node of Emu Video",
        _conditioning_fault,
    ),
    "LATENT": Wanted(
        "a LATENT",
        _is_latent,
        "connect a batch of image latents, such as the latent output of a conditioning node, and decode the latent of "
        "a video model to images first",
        _latent_fault,
    ),
    "IMAGE": Wanted("an IMAGE", _is_tensor, "connect images, for example of Load Image or VAE Decode", _frames_fault),
    "MASK": Wanted("a MASK", _is_tensor, "connect masks, for example of Load Image (as Mask)", _mask_fault),
    "FLOATS": Wanted("a list of numbers", _is_floats, "connect Value Schedule"),
    "EMU_VIDEO_LAYOUT": Wanted(
        "a layout", lambda value: isinstance(value, Joinable), "connect the layout output of a conditioning node"
    ),
    "INT": Wanted("a whole number", lambda value: isinstance(value, Integral), "enter a whole number"),
    "FLOAT": Wanted("a number", lambda value: isinstance(value, Real), "enter a number"),
    "STRING": Wanted("a text", lambda value: isinstance(value, str), "enter a text"),
    "COMBO": Wanted("a name of its list", lambda value: isinstance(value, str), "choose an entry of the list"),
}
"""ComfyUI's types of the pack's inputs."""
