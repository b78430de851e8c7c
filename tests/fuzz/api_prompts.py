"""API prompts with random values at every input of the pack's nodes, through ComfyUI's validation and execution.

A prompt must be executed, refused by ComfyUI's validation, or end in a sentence of the pack.
"""

from __future__ import annotations

import asyncio
import importlib
import math
import uuid
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from emu_video.tests.fuzz import comfyui

SECONDS = 60
NASTY: tuple[Any, ...] = (
    None, True, -1, 0, 1, 3, 2**31, 2**64, 0.0, 0.5, -0.1, 1e300, math.nan, math.inf, "", "a", "0, 1", "-1", "4", [],
    [1], {}, "auto", "\0", "é", "0: a\n4: b",
)  # fmt: skip
SENTENCES = (ValueError, FileNotFoundError)
MEMORY_IS_SHORT = 64  # the largest number that becomes an image size or a frame count here
SIZES = ("width", "height", "frames", "steps", "factor", "length")
NOT_RUN = ("EmuVideoTrainTemporalLayers",)  # it trains for hours


class Corpus(NamedTuple):
    """nodes: id -> class of the pack's nodes. sources: node that gives each type of link."""

    nodes: dict[str, Any]
    sources: dict[str, str]


def corpus(folder: Path) -> Corpus:
    nodes = {name: node for name, node in comfyui.start(folder).items() if name not in NOT_RUN}
    sources = _add_sources()
    return Corpus(nodes, sources)


def run(corpus: Corpus, random: Random, folder: Path) -> str:
    """Validate and execute one prompt."""
    import execution

    prompt = _prompt(corpus, random)
    prompt_id = str(uuid.uuid4())

    async def validate_and_execute() -> str:
        valid, _, outputs, _ = await execution.validate_prompt(prompt_id, prompt, None)
        if not valid:
            return "refused"
        runner = comfyui.executor()
        await runner.execute_async(prompt, prompt_id, {}, outputs)
        if runner.success:
            return "ok"
        ((_, error),) = [message for message in runner.status_messages if message[0] == "execution_error"]
        kind, text = error["exception_type"].rsplit(".", 1)[-1], error["exception_message"].strip()
        if kind in [sentence.__name__ for sentence in SENTENCES] and text.endswith("."):
            return "refused"
        raise AssertionError(f"{prompt}\n{kind}: {text}\n{''.join(error['traceback'])}")

    return asyncio.run(validate_and_execute())


def _prompt(corpus: Corpus, random: Random) -> dict[str, Any]:
    name = random.choice(list(corpus.nodes))
    node = corpus.nodes[name]
    prompt: dict[str, Any] = {"out": {"class_type": "FuzzSink", "inputs": {"value": ["node", 0]}}}
    inputs: dict[str, Any] = {}
    for each in node.GET_SCHEMA().inputs:
        if each.optional and random.random() < 0.5:
            continue
        kinds = [kind for kind in each.get_io_type().split(",") if kind in corpus.sources]
        if kinds:
            prompt[kinds[0]] = {"class_type": corpus.sources[kinds[0]], "inputs": {}}
            inputs[each.id] = [kinds[0], 0]
        elif isinstance(each, _widget_types()):
            inputs[each.id] = _value(each, random)
    prompt["node"] = {"class_type": name, "inputs": inputs}
    return prompt


def _widget_types() -> tuple[type, ...]:
    from comfy_api.latest import io

    return io.Int.Input, io.Float.Input, io.String.Input, io.Boolean.Input, io.Combo.Input


def _value(each: Any, random: Random) -> Any:
    """Return a value that the node may get: its default, an option, a random number, or a nasty one."""
    default = getattr(each, "default", None)
    options = getattr(each, "options", None)
    if random.random() < 0.6:
        if options:
            return random.choice(list(options))
        if isinstance(default, float):
            return random.uniform(each.min, min(each.max, 20.0))
        if isinstance(default, int) and not isinstance(default, bool):
            return random.randint(each.min, min(each.max, MEMORY_IS_SHORT))
        if default is not None:
            return default
    value = random.choice(NASTY)
    if each.id in SIZES and isinstance(value, (int, float)) and value > MEMORY_IS_SHORT:
        return MEMORY_IS_SHORT
    return value


def _add_sources() -> dict[str, str]:
    """Register small nodes that give a value of each type of link, and one that takes any."""
    from emu_video.tests.comfyui import tiny

    def vae() -> Any:
        import comfy.sd
        from comfy.taesd.taesd import TAESD

        zeros = {key: torch.zeros_like(weight) for key, weight in TAESD().state_dict().items() if weight.ndim}
        return comfy.sd.VAE(sd={**zeros, "vae_scale": torch.ones(()), "vae_shift": torch.zeros(())})

    given: dict[str, Any] = {
        "MODEL": lambda: tiny.with_temporal_layers(tiny.checkpoint()),
        "VAE": vae,
        "CONDITIONING": lambda: tiny.text(1, known_frames=tiny.first_frame_known()),
        "LATENT": lambda: {"samples": torch.zeros(tiny.FRAMES, *tiny.LATENT)},
        "IMAGE": lambda: torch.rand(2, 64, 64, 3),
        "MASK": lambda: torch.rand(2, 64, 64),
        "FLOATS": lambda: [0.5] * tiny.FRAMES,
    }
    mappings = importlib.import_module("nodes").NODE_CLASS_MAPPINGS
    for kind, make in given.items():
        mappings[f"FuzzSource{kind}"] = _source(kind, make)
    mappings["FuzzSink"] = _Sink
    return {kind: f"FuzzSource{kind}" for kind in given}


def _source(kind: str, make: Any) -> type:
    class Source:
        RETURN_TYPES = (kind,)
        FUNCTION = "give"
        CATEGORY = ""

        @classmethod
        def INPUT_TYPES(cls) -> dict:
            return {"required": {}}

        def give(self) -> tuple:
            return (make(),)

    return Source


class _Any(str):
    """A type that fits every link."""

    __hash__ = str.__hash__

    def __ne__(self, other: object) -> bool:
        return False


class _Sink:
    RETURN_TYPES = ()
    FUNCTION = "take"
    CATEGORY = ""
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {"required": {"value": (_Any("*"),)}}

    def take(self, value: Any) -> dict:
        return {}
