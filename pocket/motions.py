"""How a shape of the pocket world moves: from a motion's words to its trajectory."""

from typing import NamedTuple

import numpy as np

from .vocabulary import DIRECTIONS

MARGIN = 0.03
FLOOR = 0.02


class Start(NamedTuple):
    """Where a shape begins; `fixed` starts are kept, free ones are moved to leave room for the motion."""

    x: float
    y: float
    radius: float
    fixed: bool


def start_radius(rng: np.random.Generator, motion: str, size: str, centred: bool) -> tuple[str, float]:
    """The size word that fits the motion, and a first radius; a centred start may still grow or shrink."""
    if motion in ("getting bigger", "getting smaller"):
        grows = motion == "getting bigger"
        if centred:
            return "", float(rng.uniform(0.16, 0.2))
        return ("small" if grows else "big") if size else "", float(
            rng.uniform(*((0.12, 0.145) if grows else (0.25, 0.3)))
        )
    return size, float(rng.uniform(*{"": (0.17, 0.22), "big": (0.26, 0.3), "small": (0.12, 0.145)}[size]))


def trajectory(rng: np.random.Generator, motion: str, speed: str, start: Start, frames: int) -> tuple[np.ndarray, ...]:
    """x, y, radius and angle, each [frames]. `speed` is "slowly", "" or "fast"."""

    def pace(slow, usual, fast):
        return float(rng.uniform(*{"slowly": slow, "": usual, "fast": fast}[speed]))

    time = np.linspace(0.0, 1.0, frames)
    x, y, radius = (np.full(frames, value) for value in start[:3])
    angle = np.full(frames, rng.uniform(-0.08, 0.08))
    if motion in DIRECTIONS:
        travel = pace((0.12, 0.18), (0.26, 0.4), (0.42, 0.56))
        axis = 0 if DIRECTIONS[motion][0] else 1
        sign = DIRECTIONS[motion][axis]
        path = _straight(rng, start[axis], sign, travel, start, time)
        x, y = (path, y) if axis == 0 else (x, path)
    elif motion in ("getting bigger", "getting smaller"):
        factor = pace((1.3, 1.45), (1.6, 2.0), (2.0, 2.4))
        end = min(start.radius * factor, 0.36) if motion == "getting bigger" else max(start.radius / factor, 0.08)
        radius = start.radius + (end - start.radius) * time
        reach = max(start.radius, end) + MARGIN
        x, y = np.clip(x, reach, 1 - reach), np.clip(y, reach, 1 - reach)
    elif motion == "spinning":
        step = np.deg2rad(pace((8, 11), (14, 19), (22, 27)))
        first = angle[0] if rng.random() < 0.5 else rng.uniform(0, 2 * np.pi)
        angle = first + step * np.arange(frames)
    elif motion == "bouncing":
        ground = start.y if start.fixed and rng.random() < 0.6 else 1 - start.radius - FLOOR
        height = min(pace((0.25, 0.4), (0.3, 0.42), (0.3, 0.42)), ground - start.radius - FLOOR)
        hops = {"slowly": 1, "": 2, "fast": 2}[speed]
        y = ground - height * np.abs(np.sin(np.pi * hops * time))
    return x, y, radius, angle


def _straight(rng, at: float, sign: int, travel: float, start: Start, time: np.ndarray) -> np.ndarray:
    """A straight path of length `travel` (less where a fixed start leaves less room) that stays in the frame."""
    low, high = start.radius + MARGIN, 1 - start.radius - MARGIN
    travel = min(travel, high - low)
    if not start.fixed:
        room = max(0.0, high - low - travel)
        at = low + room * rng.random() if sign > 0 else high - room * rng.random()
    return at + (np.clip(at + sign * travel, low, high) - at) * time
