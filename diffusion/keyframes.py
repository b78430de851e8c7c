"""Schedules over the frames of a video: reading keyframes from text, and blending linearly between them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

Entry = TypeVar("Entry")
PROMPT_LINE = re.compile(r'\s*"?(-?\d{1,9})"?\s*[:\uff1a](.*)')  # also with the colon of Chinese and Japanese keyboards
QUOTED = re.compile(r'"(.*)"\s*,?')
LIKE_A_FRAME = re.compile(r"\W*(?:frame\s*)?\d+(?:\.\d+)?\s*%?\W*[:\uff1a].*", re.IGNORECASE)
VALUE = re.compile(r'\s*"?(-?\d{1,9})"?\s*:\s*\(?\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*\)?\s*', re.IGNORECASE)


@dataclass(frozen=True)
class Blend:
    """One frame of a schedule: the mix (1 - weight) * before + weight * after of two keyframes, given by index."""

    before: int
    after: int
    weight: float


def read_prompts(text: str, frames: int) -> dict[int, str]:
    """Read a prompt schedule; return frame number -> prompt, in order of the frames.

    Two forms are accepted: lines `8: text`, where a line without a number continues the one above, and the JSON-like
    `"8": "text",` of older packs. A negative number counts from the end of the video.

    Raises:
        ValueError: for another form, a frame named twice, or the expressions of older packs.
    """
    stripped = text.strip()
    pairs = _read_json(stripped) if stripped.startswith(('"', "{")) else _read_lines(stripped)
    if not pairs:
        raise ValueError('The schedule has no prompts. Write one per line, for example "0: a cat" and "8: a dog".')
    for frame, prompt in pairs:
        for mark, what in (("`", "expressions between backticks"), ("--neg", "negative prompts behind --neg")):
            if mark in prompt:
                raise ValueError(f"The prompt at frame {frame} has {what}, which are not supported: remove them.")
    return _by_frame(pairs, frames)


def read_values(text: str, frames: int) -> dict[int, float]:
    """Read a value schedule; return frame number -> number.

    Entries have the form `8: 0.5` or `8:(0.5)` and are separated by line breaks or commas.

    Raises:
        ValueError: for another form, or a frame named twice.
    """
    pairs = []
    for part in filter(str.strip, re.split(r"[\n,]", text)):
        match = VALUE.fullmatch(part)
        if match is None or not math.isfinite(float(match[2])):
            raise ValueError(f'"{part.strip()}" is not a frame number and a value: write, for example, 8: 0.5.')
        pairs.append((int(match[1]), float(match[2])))
    if not pairs:
        raise ValueError('The schedule has no values. Write one per line, for example "0: 1.0" and "8: 0.5".')
    return _by_frame(pairs, frames)


def blends(keys: Sequence[int], frames: int, is_loop: bool = False) -> list[Blend]:
    """Return the blend of each frame 0..frames-1 between keyframes at `keys`, in ascending order.

    Frames before the first key and after the last one keep its value. In a loop they blend from the last key to the
    first key of the next round, so that the last frame leads to frame 0.

    Raises:
        ValueError: for a loop with a key beyond its last frame.
    """
    places = list(enumerate(keys))
    if is_loop and keys[-1] >= frames:
        raise ValueError(f"A loop of {frames} frames has no frame {keys[-1]}: use frame numbers up to {frames - 1}.")
    if is_loop:
        last, first = places[-1], places[0]
        places = [(last[0], last[1] - frames), *places, (first[0], first[1] + frames)]
    result, at = [], 0
    for frame in range(frames):
        while at + 1 < len(places) and places[at + 1][1] <= frame:
            at += 1
        (before, begin), (after, end) = places[at], places[min(at + 1, len(places) - 1)]
        is_between = begin <= frame < end
        result.append(
            Blend(before, after, (frame - begin) / (end - begin)) if is_between else Blend(before, before, 0.0)
        )
    return result


def scheduled_values(text: str, frames: int, is_loop: bool = False) -> list[float]:
    """Return one number per frame of a schedule in the form of `read_values`."""
    keys = read_values(text, frames)
    values = list(keys.values())
    return [
        values[blend.before] * (1 - blend.weight) + values[blend.after] * blend.weight
        for blend in blends(list(keys), frames, is_loop)
    ]


def _read_lines(text: str) -> list[tuple[int, str]]:
    pairs: list[tuple[int, str]] = []
    for line in text.splitlines():
        match = PROMPT_LINE.fullmatch(line)
        if match:
            prompt = match[2].strip()
            quoted = QUOTED.fullmatch(prompt)
            pairs.append((int(match[1]), quoted[1] if quoted else prompt))
        elif LIKE_A_FRAME.fullmatch(line):
            raise ValueError(
                f'The line "{line.strip()}" looks like a frame number, but is not one: begin it with a whole number '
                "and a colon, for example 8: a dog."
            )
        elif pairs:
            frame, prompt = pairs[-1]
            pairs[-1] = (frame, f"{prompt} {line.strip()}".strip())
        elif line.strip():
            raise ValueError(f'"{line.strip()}" has no frame number: begin the line with one, for example 0: a cat.')
    return pairs


def _read_json(text: str) -> list[tuple[int, str]]:
    body = text.removeprefix("{").removesuffix("}").strip().rstrip(",")
    try:
        pairs = json.loads("{" + body + "}", object_pairs_hook=lambda pairs: pairs, strict=False)
    except json.JSONDecodeError as error:
        raise ValueError(
            f'The schedule cannot be read at "{("{" + body + "}")[max(0, error.pos - 20) : error.pos + 20]}": write '
            '"0": "text", with a comma after each prompt but the last, or plain lines like 0: text.'
        ) from None
    except RecursionError:
        raise ValueError("The schedule has brackets inside of brackets: write plain lines like 0: text.") from None
    for frame, prompt in pairs:
        if not re.fullmatch(r"\s*-?\d{1,9}\s*", frame) or not isinstance(prompt, str):
            raise ValueError(f'The entry "{frame}" has no frame number or no text: write, for example, "8": "a dog".')
    return [(int(frame), prompt.strip()) for frame, prompt in pairs]


def _by_frame(pairs: list[tuple[int, Entry]], frames: int) -> dict[int, Entry]:
    if frames < 1:
        raise ValueError(f"A schedule needs at least one frame, not {frames}: set frames to those of the video.")
    result: dict[int, Entry] = {}
    for number, entry in pairs:
        frame = number + frames if number < 0 else number
        if frame < 0:
            raise ValueError(f"A video of {frames} frames has no frame {number}: use {-frames} or a higher number.")
        if frame in result:
            raise ValueError(f"The schedule names frame {frame} twice: name each frame once.")
        result[frame] = entry
    return dict(sorted(result.items()))
