"""Content that a caption of a pocket video describes: one shape, its colour, place and motion, background and light."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..model.text_encoder import Vocabulary
from ..world.vocabulary import BACKGROUNDS, COLOURS, MOTIONS, PLACES, SHAPES

STILL = "still"


@dataclass(frozen=True)
class Wanted:
    """Content of a caption. "" means that the caption does not say. A caption without a motion asks for a still shape.

    speed: "slowly", "fast" or "". light: "darker", "brighter" or "".
    """

    colour: str
    shape: str
    motion: str = STILL
    speed: str = ""
    place: str = ""
    background: str = ""
    light: str = ""


def read_caption(caption: str) -> Wanted:
    """Parse a caption of one shape. Synonyms of the vocabulary count.

    Raises:
        ValueError: the caption does not name exactly one shape and its colour.
    """
    words = Vocabulary().split(caption)
    shapes = [word for word in words if word in SHAPES]
    if len(shapes) != 1:
        raise ValueError(
            f"The caption {caption!r} names {len(shapes)} shapes, but the reader judges videos of one shape. Use "
            'captions such as "a red circle moving left on a white background".'
        )
    before = words[: words.index(shapes[0])]
    colour = next((word for word in reversed(before) if word in COLOURS), "")
    if not colour:
        raise ValueError(f"The caption {caption!r} does not name the colour of the {shapes[0]}. Add it.")
    text = " ".join(words)
    background = re.search(rf"on a ({'|'.join(BACKGROUNDS)}) background", text)
    light = re.search(r"getting (darker|brighter)", text)
    return Wanted(
        colour=colour,
        shape=shapes[0],
        motion=_named(text, MOTIONS) or STILL,
        speed=_named(text, ("slowly", "fast")),
        place=_named(text, sorted(PLACES, key=len, reverse=True)),
        background=background[1] if background else "",
        light=light[1] if light else "",
    )


def _named(text: str, phrases: Iterable[str]) -> str:
    """Return the first of the phrases that `text` contains as whole words, or ""."""
    return next((phrase for phrase in phrases if f" {phrase} " in f" {text} "), "")
