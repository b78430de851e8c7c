"""Nodes of the fuzz of API prompts: one for each type of link, with a right value and nasty ones, and a sink.

The value 0 of a source is right. The others are what graphs and other packs may put behind a type by mistake.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

Make = Callable[[], Any]


def register(constants: tuple[Any, ...]) -> dict[str, int]:
    """Register the nodes with ComfyUI. Return {type of link: number of its nasty values}.

    constants: values of the source of any type.
    """
    values = {kind: [*makes, *NOTHING] for kind, makes in _values().items()}
    values["ANY"] = [lambda value=value: value for value in constants]
    mappings = importlib.import_module("nodes").NODE_CLASS_MAPPINGS
    for kind, makes in values.items():
        mappings[f"FuzzSource{kind}"] = _source(_Any("*") if kind == "ANY" else kind, makes)
    mappings["FuzzSink"] = _Sink
    return {kind: len(makes) - (kind != "ANY") for kind, makes in values.items()}


NOTHING: tuple[Make, ...] = (lambda: None, lambda: 5, lambda: "a", list, dict, lambda: [None], object)


def _values() -> dict[str, list[Make]]:
    """Return {type of link: functions that make the right value and nasty ones}."""
    from emu_video.diffusion.windows import extended, known_at
    from emu_video.tests.comfyui import narrow_clip, tiny

    def layers(**changes: Any) -> Any:
        return tiny.with_temporal_layers(tiny.checkpoint(), **changes)

    def text(**changes: Any) -> list:
        known = tiny.first_frame_known()
        return [[tiny.text(1)[0][0], {"noise_concat": known} | changes]]

    def latent(*shape: int, **entries: Any) -> dict:
        return {"samples": torch.zeros(shape or (tiny.FRAMES, *tiny.LATENT)), **entries}

    context = tiny.CONTEXT
    return {
        "MODEL": [
            layers, tiny.checkpoint, lambda: layers(role="interpolation"), lambda: layers(role="super_resolution"),
            lambda: layers(conditioning_channels=0), lambda: layers(frames=2), lambda: tiny.in_windows(layers(), 2, 1),
        ],
        "VAE": [_vae],
        "CLIP": [cache(lambda: narrow_clip.narrow_clip("sd15", context))],
        "CONDITIONING": [
            text, lambda: [[None, {}]], lambda: [[torch.rand(7, context), {}]], lambda: [[torch.rand(1, 7, context)]],
            lambda: [[torch.rand(3, 7, context), {}]], lambda: [[torch.full((1, 7, context), math.nan), {}]],
            lambda: [[torch.rand(1, 7, 3), {}]], lambda: [[torch.rand(1, 0, context), {}]], lambda: text() * 2,
            lambda: text(noise_concat=torch.rand(tiny.FRAMES, 5, 4, 4)), lambda: text(noise_concat=None),
            lambda: tiny.text(1), lambda: text(pooled_output=torch.rand(9, 3)), lambda: text(emu_video_source=None),
            lambda: text(strength=math.nan), lambda: text(noise_concat=torch.rand(1, 9, 8, 8)),
            lambda: [[torch.ones(1, 7, context, dtype=torch.int64), {}]], lambda: tiny.text(1) + text(),
        ],
        "LATENT": [
            latent, lambda: latent(1, 4, 8, 8), lambda: latent(4, 4, 8, 9), lambda: latent(4, 4, 1, 1),
            lambda: latent(2, 4, 4, 8, 8), lambda: latent(4, 8, 8), lambda: latent(0, 4, 8, 8),
            lambda: latent(4, 16, 8, 8), lambda: latent(7, 4, 8, 8), lambda: latent(4, 4, 0, 8),
            lambda: {"samples": torch.full((4, 4, 8, 8), math.nan)}, lambda: {"samples": None},
            lambda: {"samples": torch.zeros(4, 4, 8, 8, dtype=torch.int32)}, lambda: latent(batch_index=[0]),
            lambda: latent(noise_mask=torch.ones(3, 5, 5)), lambda: latent(noise_mask=torch.full((1, 8, 8), math.nan)),
            lambda: latent(batch_index=None), lambda: latent(noise_mask=None), lambda: latent(batch_index=["a"] * 4),
            lambda: {"samples": torch.nested.nested_tensor([torch.zeros(4, 8, 8), torch.zeros(4, 8, 4)])},
        ],
        "IMAGE": [
            lambda: torch.rand(2, 64, 64, 3), lambda: torch.rand(1, 64, 64, 3), lambda: torch.rand(64, 64, 3),
            lambda: torch.rand(0, 64, 64, 3), lambda: torch.rand(2, 64, 64, 1), lambda: torch.rand(1, 64, 64, 4),
            lambda: torch.rand(2, 64, 64, 2), lambda: torch.rand(1, 1, 1, 3), lambda: torch.rand(1, 63, 65, 3),
            lambda: torch.rand(2, 8, 512, 3), lambda: torch.full((1, 64, 64, 3), math.nan),
            lambda: torch.full((1, 64, 64, 3), 1e30), lambda: torch.ones(1, 64, 64, 3, dtype=torch.uint8),
            lambda: torch.rand(2, 64, 64, 0), lambda: torch.rand(5, 64, 64, 3).half(),
            lambda: torch.rand(1, 2, 64, 64, 3), lambda: torch.rand(3, 64, 64, 3, dtype=torch.float64),
        ],
        "MASK": [
            lambda: torch.rand(2, 64, 64), lambda: torch.rand(64, 64), lambda: torch.rand(0, 64, 64),
            lambda: torch.rand(tiny.FRAMES, 8, 9), lambda: torch.rand(1, 1, 64, 64), lambda: torch.rand(2, 64, 64, 3),
            lambda: torch.full((1, 8, 8), math.inf), lambda: torch.ones(1, 8, 8, dtype=torch.bool),
            lambda: torch.tensor(1.0), lambda: torch.rand(4, 1, 1),
        ],
        "FLOATS": [
            lambda: [0.5] * tiny.FRAMES, lambda: 0.5, lambda: ["a"], lambda: [math.nan] * 4, lambda: [1e300] * 4,
            lambda: torch.rand(4), lambda: [1, 2, 3, 4], lambda: [True] * 4, lambda: (0.1,) * 9, lambda: [[0.5]] * 4,
        ],
        "EMU_VIDEO_LAYOUT": [
            lambda: known_at([0], 2), lambda: known_at([0, -1], 5), lambda: extended(2, 4, 1),
        ],
    }  # fmt: skip


@cache
def _vae() -> Any:
    import comfy.sd
    from comfy.taesd.taesd import TAESD

    zeros = {key: torch.zeros_like(weight) for key, weight in TAESD().state_dict().items() if weight.ndim}
    return comfy.sd.VAE(sd={**zeros, "vae_scale": torch.ones(()), "vae_shift": torch.zeros(())})


def _source(kind: str, makes: list[Make]) -> type:
    class Source:
        RETURN_TYPES = (kind,)
        FUNCTION = "give"
        CATEGORY = ""

        @classmethod
        def INPUT_TYPES(cls) -> dict:
            return {"required": {"which": ("INT", {"default": 0})}}

        def give(self, which: int) -> tuple:
            return (makes[which](),)

    return Source


class _Any(str):
    """A type that fits every link."""

    __hash__ = str.__hash__

    def __ne__(self, other: object) -> bool:
        return False


class _Sink:
    """Takes an output, and raises when a video or latent is not finite."""

    RETURN_TYPES = ()
    FUNCTION = "take"
    CATEGORY = ""
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {"required": {"value": (_Any("*"),)}}

    def take(self, value: Any) -> dict:
        tensor = value.get("samples") if isinstance(value, dict) else value
        assert not isinstance(tensor, Tensor) or tensor.isfinite().all(), "the output has values that are not finite"
        return {}
