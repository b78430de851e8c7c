"""Prompt travel: a CONDITIONING with one text embedding per frame, blended between the prompts of a schedule."""

from __future__ import annotations

import math
from typing import Any

import comfy.sd
import torch
from torch import Tensor

from ..diffusion.keyframes import Blend, blends, read_prompts, scheduled_values

__all__ = ["prompt_schedule", "scheduled_values"]

MAX_CHUNKS = 64  # tokens of a blended text; one chunk of CLIP has 77


def prompt_schedule(
    clip: comfy.sd.CLIP | None, text: str, *, frames: int, prefix: str = "", suffix: str = "", is_loop: bool = False
) -> list:
    """Encode the prompts of a schedule, see `read_prompts`, and return a CONDITIONING of `frames` text embeddings.

    prefix, suffix: added before and after every prompt. Each distinct prompt is encoded once. Frames at a keyframe have
    the embedding of its prompt alone; frames between two have ComfyUI's weighted average of both (Conditioning
    Average).
    """
    if clip is None:
        raise ValueError("There is no CLIP, because this checkpoint contains none: load one with Load CLIP.")
    keys = read_prompts(text, frames)
    prompts = [" ".join(filter(None, (prefix.strip(), prompt, suffix.strip()))) for prompt in keys.values()]
    encoded = {prompt: clip.encode_from_tokens_scheduled(clip.tokenize(prompt)) for prompt in dict.fromkeys(prompts)}
    plan = blends(list(keys), frames, is_loop)
    # A CLIP with scheduled LoRA hooks gives several entries per prompt, one for each range of steps.
    ranges = zip(*(encoded[prompt] for prompt in prompts), strict=True)
    return [_blended(list(entries), plan) for entries in ranges]


def text_of_window(conditioning: list, *, start: int, frames: int, total: int) -> list:
    """Return the texts for frames start..start + frames - 1 of a video of `total` frames.

    A CONDITIONING with one text for all frames, or with `frames` texts, is returned unchanged.

    Raises:
        ValueError: if the texts are for another number of frames.
    """
    return [_of_window(text, options, start, frames, total) for text, options in conditioning]


def _of_window(text: Tensor, options: dict[str, Any], start: int, frames: int, total: int) -> list[Any]:
    if len(text) in (1, frames):
        return [text, options]
    if len(text) != total:
        raise ValueError(
            f"The prompts are for {len(text)} frames, but the video has {total}: set frames of Prompt Schedule to "
            f"{total}."
        )
    part, pooled = slice(start, start + frames), options.get("pooled_output")
    if pooled is not None and len(pooled) == total:
        options = options | {"pooled_output": pooled[part]}
    return [text[part], options]


def _blended(entries: list[list[Any]], plan: list[Blend]) -> list[Any]:
    """Blend the entries [text, options] of each keyframe into one entry with a batch of frames."""
    length = math.lcm(*(text.shape[1] for text, _ in entries))
    longest = max(text.shape[1] for text, _ in entries)
    if length > MAX_CHUNKS * min(text.shape[1] for text, _ in entries):
        raise ValueError(
            f"The prompts have up to {longest} tokens, and their lengths have no short common multiple: shorten the "
            "longest ones."
        )
    # Cross-attention over repeated tokens has the same result, so a prompt keeps its meaning at any length.
    texts = [text.repeat(1, length // text.shape[1], 1) for text, _ in entries]
    options = dict(entries[0][1])
    if "attention_mask" in options:
        raise ValueError(
            "This text encoder pads its prompts, which cannot be blended: use a CLIP of SD 1.5, 2.1 or SDXL."
        )
    if options.get("pooled_output") is not None:
        options["pooled_output"] = _mix([entry["pooled_output"] for _, entry in entries], plan)
    return [_mix(texts, plan), options]


def _mix(tensors: list[Tensor], plan: list[Blend]) -> Tensor:
    """Mix tensors [1, ...] of each keyframe to [frames, ...]."""
    return torch.cat(
        [tensors[blend.after] * blend.weight + tensors[blend.before] * (1 - blend.weight) for blend in plan]
    )
