"""API prompts with random values at every input of the pack's nodes, through ComfyUI's validation and execution.

A prompt must be executed, refused by ComfyUI's validation, or end in a sentence of the pack.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from emu_video.tests.fuzz import api_sources, comfyui

SECONDS = 60
MEMORY = 3 * 2**30
NASTY: tuple[Any, ...] = (
    None, True, -1, 0, 1, 3, 2**31, 2**64, 0.0, 0.5, -0.1, 1e300, math.nan, math.inf, "", "a", "0, 1", "-1", "4", [],
    [1], {}, "auto", "\0", "é", "0: a\n4: b",
)  # fmt: skip
SENTENCES = (ValueError, FileNotFoundError)
MEMORY_IS_SHORT = 64  # the largest number that becomes an image size or a frame count here
SIZES = ("width", "height", "frames", "steps", "factor", "length")
OTHER_CLIP = "TIPS: If you have any"  # ComfyUI's own advice for texts of another width than the model's
NOT_RUN = ("EmuVideoTrainTemporalLayers",)  # it trains for hours


class Corpus(NamedTuple):
    """nodes: id -> class of the pack's nodes. kinds: type of link -> number of its nasty values."""

    nodes: dict[str, Any]
    kinds: dict[str, int]


def corpus(folder: Path) -> Corpus:
    nodes = {name: node for name, node in comfyui.start(folder).items() if name not in NOT_RUN}
    return Corpus(nodes, api_sources.register(NASTY))


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
        if OTHER_CLIP in text:
            return "refused"
        if kind in [sentence.__name__ for sentence in SENTENCES] and text.endswith("."):
            return "refused"
        raise AssertionError(f"{prompt}\n{kind}: {text}\n{''.join(error['traceback'])}")

    return asyncio.run(validate_and_execute())


def _prompt(corpus: Corpus, random: Random) -> dict[str, Any]:
    name = random.choice(list(corpus.nodes))
    prompt: dict[str, Any] = {"out": {"class_type": "FuzzSink", "inputs": {"value": ["node", 0]}}}
    inputs: dict[str, Any] = {}
    share = random.choice((0.0, 0.1, 0.5))  # of inputs with a nasty value or link
    for each in corpus.nodes[name].GET_SCHEMA().inputs:
        if each.optional and random.random() < 0.5:
            continue
        kinds = [kind for kind in each.get_io_type().split(",") if kind in corpus.kinds]
        is_widget = isinstance(each, _widget_types())
        if kinds and not is_widget:
            kind, is_nasty = random.choice(kinds), random.random() < share
            if is_nasty and random.random() < 0.2:
                inputs[each.id] = random.choice([value for value in NASTY if not isinstance(value, list)])
                continue
            which = random.randrange(1, 1 + corpus.kinds[kind]) if is_nasty else 0
            inputs[each.id] = [_add(prompt, f"FuzzSource{kind}", which=which), 0]
        elif is_widget and random.random() < share / 2:
            inputs[each.id] = [_add(prompt, "FuzzSourceANY", which=random.randrange(corpus.kinds["ANY"])), 0]
        elif is_widget:
            inputs[each.id] = _value(each, random, share)
    prompt["node"] = {"class_type": name, "inputs": inputs}
    return prompt


def _add(prompt: dict[str, Any], class_type: str, **inputs: Any) -> str:
    """Add a node to the prompt and return its id."""
    name = f"source{len(prompt)}"
    prompt[name] = {"class_type": class_type, "inputs": inputs}
    return name


def _widget_types() -> tuple[type, ...]:
    from comfy_api.latest import io

    return io.Int.Input, io.Float.Input, io.String.Input, io.Boolean.Input, io.Combo.Input


def _value(each: Any, random: Random, nasty: float) -> Any:
    """Return a value that the node may get: its default, an option, a random number, or at this rate a nasty one."""
    default = getattr(each, "default", None)
    options = getattr(each, "options", None)
    if random.random() >= nasty:
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
