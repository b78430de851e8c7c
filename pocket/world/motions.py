"""Trajectories of shapes in the pocket world for each motion word."""

from typing import NamedTuple

import numpy as np

from .vocabulary import DIRECTIONS

FRAMES = 8  # of a clip: motions are planned from frame 0 to frame 7
MARGIN = 0.03  # of the frame, between a shape and the border
FLOOR = 0.02  # of the frame, below a shape that bounces


class Start(NamedTuple):
    """Where a shape begins. A fixed start is kept, a free one is moved to leave room for the motion."""

    x: float
    y: float
    radius: float
    fixed: bool


USUAL_SIZES = {"": (0.14, 0.25), "big": (0.25, 0.3), "small": (0.11, 0.145)}
WIDE_SIZES = {"": (0.1, 0.33), "big": (0.26, 0.34), "small": (0.09, 0.145)}


def start_radius(
    rng: np.random.Generator, motion: str, size: str, centred: bool, wide: bool = False
) -> tuple[str, float]:
    """Return the size word that fits the motion, and the first radius. A centred start may still grow or shrink.

    wide: draw every size that a shape reaches while it grows or shrinks, for single pictures.
    """
    if motion in ("getting bigger", "getting smaller"):
        grows = motion == "getting bigger"
        if centred:
            return "", float(rng.uniform(0.16, 0.2))
        return ("small" if grows else "big") if size else "", float(
            rng.uniform(*((0.12, 0.145) if grows else (0.25, 0.3)))
        )
    return size, float(rng.uniform(*(WIDE_SIZES if wide else USUAL_SIZES)[size]))


def trajectory(
    rng: np.random.Generator, motion: str, speed: str, start: Start, times: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Return x, y, radius and angle at `times`, each [len(times)]. speed: "slowly", "" or "fast".

    times: in frames of a clip, also between them. Before 0 and after 7 the motion continues as far as the frame allows.
    """

    def pace(slow, usual, fast):
        return float(rng.uniform(*{"slowly": slow, "": usual, "fast": fast}[speed]))

    time = times * (1 / (FRAMES - 1))
    x, y, radius = (np.full(len(times), value) for value in start[:3])
    angle = np.full(len(times), rng.uniform(-0.08, 0.08))
    if motion in DIRECTIONS:
        travel = pace((0.12, 0.18), (0.26, 0.4), (0.42, 0.56))
        axis = 0 if DIRECTIONS[motion][0] else 1
        sign = DIRECTIONS[motion][axis]
        path = _straight(rng, start[axis], sign, travel, start, time)
        x, y = (path, y) if axis == 0 else (x, path)
    elif motion in ("getting bigger", "getting smaller"):
        factor = pace((1.3, 1.45), (1.6, 2.0), (2.0, 2.4))
        end = min(start.radius * factor, 0.34) if motion == "getting bigger" else max(start.radius / factor, 0.1)
        radius = start.radius + (end - start.radius) * time
        reach = max(start.radius, end) + MARGIN
        x, y = np.clip(x, reach, 1 - reach), np.clip(y, reach, 1 - reach)
    elif motion == "spinning":
        step = np.deg2rad(pace((6, 7), (9, 10.5), (14, 16)))
        angle = angle[0] + step * times
    elif motion == "bouncing":
        ground = start.y if start.fixed and rng.random() < 0.6 else 1 - start.radius - FLOOR
        height = min(pace((0.25, 0.4), (0.3, 0.42), (0.3, 0.42)), ground - start.radius - FLOOR)
        hops = {"slowly": 1, "": 2, "fast": 2}[speed]
        y = ground - height * np.abs(np.sin(np.pi * hops * time))
    return x, y, radius, angle


def _straight(rng, at: float, sign: int, travel: float, start: Start, time: np.ndarray) -> np.ndarray:
    """Return a straight path of length `travel`, shorter if a fixed start leaves less room, inside the frame."""
    low, high = start.radius + MARGIN, 1 - start.radius - MARGIN
    travel = min(travel, high - low)
    if not start.fixed:
        room = max(0.0, high - low - travel)
        at = low + room * rng.random() if sign > 0 else high - room * rng.random()
    path = at + (np.clip(at + sign * travel, low, high) - at) * time
    return np.clip(path, start.radius, 1 - start.radius)
