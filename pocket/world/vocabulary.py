"""The words of the pocket world, its colours, and the combinations held out of training."""

import hashlib
from collections.abc import Iterable
from difflib import get_close_matches

SHAPES = ("circle", "square", "triangle", "star", "cross")

COLOURS = {
    "red": (218, 38, 38),
    "green": (36, 160, 62),
    "blue": (40, 84, 222),
    "yellow": (246, 212, 40),
    "orange": (246, 132, 24),
    "purple": (136, 50, 176),
    "pink": (248, 134, 184),
    "cyan": (56, 204, 214),
    "white": (246, 246, 246),
    "black": (18, 18, 18),
}

BACKGROUNDS = {
    "white": (246, 246, 246),
    "black": (18, 18, 18),
    "grey": (128, 128, 128),
    "blue": (40, 84, 222),
    "green": (36, 160, 62),
    "purple": (136, 50, 176),
}

PLACES = {
    "on the left": (0.0, 0.5),
    "on the right": (1.0, 0.5),
    "at the top": (0.5, 0.0),
    "at the bottom": (0.5, 1.0),
    "in the middle": (0.5, 0.5),
    "at the top left": (0.0, 0.0),
    "at the top right": (1.0, 0.0),
    "at the bottom left": (0.0, 1.0),
    "at the bottom right": (1.0, 1.0),
}

DIRECTIONS = {
    "moving right": (1, 0),
    "moving left": (-1, 0),
    "moving down": (0, 1),
    "moving up": (0, -1),
}

MOTIONS = (*DIRECTIONS, "getting bigger", "getting smaller", "spinning", "bouncing", "still")

OPPOSITES = {
    "moving right": "moving left",
    "moving left": "moving right",
    "moving down": "moving up",
    "moving up": "moving down",
    "getting bigger": "getting smaller",
    "getting smaller": "getting bigger",
}

WORDS = tuple(
    "a big small on the at in and top bottom left right middle up down background moving getting bigger smaller"
    " darker brighter spinning bouncing still slowly fast".split()
    + list(SHAPES)
    + sorted({*COLOURS, *BACKGROUNDS})
)

ALIASES = {
    "an": "a",
    "one": "a",
    "gray": "grey",
    "centre": "middle",
    "center": "middle",
    "large": "big",
    "huge": "big",
    "little": "small",
    "tiny": "small",
    "ball": "circle",
    "disc": "circle",
    "box": "square",
    "plus": "cross",
    "violet": "purple",
    "turquoise": "cyan",
    "moves": "moving",
    "going": "moving",
    "upwards": "up",
    "downwards": "down",
    "leftwards": "left",
    "rightwards": "right",
    "rotating": "spinning",
    "turning": "spinning",
    "larger": "bigger",
    "lighter": "brighter",
    "quickly": "fast",
    "slow": "slowly",
}


def near_misses(word: str, known: Iterable[str]) -> list[str]:
    """Return up to two of the `known` words that are spelled like `word` and start alike, the most similar first."""
    return get_close_matches(word, [each for each in known if each[:1] == word[:1]], n=2, cutoff=0.7)


def held_out(colour: str, shape: str, motion: str) -> bool:
    """Return True for the one in six colour x shape x motion combinations that no training clip or caption shows."""
    digest = hashlib.sha256(f"{colour} {shape} {motion}".encode()).digest()
    return digest[0] % 6 == 0


def spins_visibly(shape: str) -> bool:
    """Return whether the rotation of a shape is visible. Only such shapes turn in the world."""
    return shape != "circle"
