"""The reasons of JUICE as measurements: each with its unit, and the smallest difference between two videos that counts.

Every measure returns a number that is higher for the better video, or NaN where it cannot be measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ...evaluation.tables import markdown
from ..world.reader import SYMMETRY
from ..world.vocabulary import BACKGROUNDS, DIRECTIONS, PLACES
from .caption import STILL
from .watched import Watched

TRAVEL = {"slowly": (0.1, 0.22), "": (0.15, 0.42), "fast": (0.25, 0.6)}  # of the frame
GROWTH = {"slowly": (1.2, 1.5), "": (1.25, 2.1), "fast": (1.35, 2.5)}  # factor of the radius
TURN = {"slowly": (35, 60), "": (45, 85), "fast": (80, 130)}  # degrees
HOP = {"slowly": (0.15, 0.45), "": (0.2, 0.45), "fast": (0.2, 0.45)}  # of the frame
"""Amounts of motion that the world draws for each speed, widened at the low end where the frame leaves less room."""
STILLNESS = 0.03  # of the frame; a still shape moves less than this
VANISHED, OTHER_SHAPE = 128.0, 48.0  # of 255; how much an absent shape, or another one, counts as a change of colour


class Measure(NamedTuple):
    """A measured reason. title: with its unit. threshold: smallest difference that counts."""

    title: str
    threshold: float
    measure: Callable[[Watched], float]


def sharpness(video: Watched) -> float:
    """Return minus the width of the shape's edges, in thousandths of the frame. A rendered edge has about 8."""
    return -video.edge_width


def smoothness(video: Watched) -> float:
    """Return minus the distance of the shape from a smooth path, in thousandths of the frame (root mean square).

    Smooth paths are parabolas of place and radius over time, and the world's bounces. Blind to uneven spinning.
    """
    if len(video.path) < 5:
        return math.nan
    time = video.path[:, 0] / (len(video.frames) - 1)
    parabola = np.stack([np.ones_like(time), time, time**2], 1)
    x, y, radius = video.path[:, 1:].T
    beside = _residual(parabola, x) + _residual(parabola, radius)
    hops = [np.stack([np.ones_like(time), np.abs(np.sin(np.pi * count * time))], 1) for count in (1, 2)]
    along = min(_residual(basis, y) for basis in (parabola, *hops))
    return -1000 * math.sqrt(beside + along)


def recognisable(video: Watched) -> float:
    """Return 1 - the error of the drawn shape against the ideal one, mean over frames; a frame without a shape is 0."""
    return 1 - float(video.shape_errors.mean())


def consistency(video: Watched) -> float:
    """Return minus the change of colours since the first frame, of 255, mean over frames.

    The larger change of shape and background counts. A frame without the shape, or with another one, counts as a large
    change. If the caption asks for changing light, changes are measured against a straight line over time.
    """
    colours, sights = video.colours, video.reading.sights
    if not video.seen:
        return -VANISHED
    start = np.stack([colours[video.seen[0][0], 0], colours[0, 1]])
    if video.wanted.light:
        start = np.stack([_line(colours[:, part]) for part in range(2)], 1)
    changes = np.abs(colours - start).max(-1)
    changes[:, 0] = np.where([sight is None for sight in sights], VANISHED, changes[:, 0])
    other = np.array([bool(s) and s.shape != video.shape for s in sights]) * OTHER_SHAPE
    return -float((changes.max(1) + other)[1:].mean())


def motion_amount(video: Watched) -> float:
    """Return minus how far the amount of motion is from what the caption asks for: 0 within its range, 1 for none."""
    amount, (low, high) = _amount(video)
    return -max(0.0, low - amount, amount - high) / low


def spatial(video: Watched) -> float:
    """Return the share of colour, shape, background and first place that are those of the caption, mean over frames.

    While the light changes, only the frame in full light counts. Sizes are not compared.
    """
    wanted, numbers = video.wanted, range(len(video.frames))
    if wanted.light:
        numbers = [0 if wanted.light == "darker" else len(video.frames) - 1]
    shares = []
    for i in numbers:
        sight = video.reading.sights[i]
        right = [bool(sight) and sight.colour == wanted.colour, bool(sight) and sight.shape == wanted.shape]
        if wanted.background:
            ground = video.colours[i, 1]
            name = min(BACKGROUNDS, key=lambda name: float(np.abs(ground - BACKGROUNDS[name]).sum()))
            right.append(name == wanted.background)
        shares.append(np.mean(right))
    if wanted.place:
        first = video.reading.sights[0]
        spot = tuple(0.0 if v < 0.42 else 1.0 if v > 0.58 else 0.5 for v in (first.x, first.y)) if first else None
        shares.append(float(spot == PLACES[wanted.place]))
    return float(np.mean(shares))


def temporal(video: Watched) -> float:
    """Return how well the motion of the caption is obeyed, -1 for the opposite to 1.

    It is the mean of progress (how much of the smallest motion asked for happens) and of the motion as read (1 or 0).
    A change of light is the other half of a caption that asks for one.
    """
    obeyed = float(video.reading.motion == video.wanted.motion)
    score = (_progress(video) + obeyed) / 2
    if not video.wanted.light:
        return score
    bright = np.nanmean(video.colours, (1, 2))
    change = math.log((bright[-2:].mean() + 1) / (bright[:2].mean() + 1))
    towards = -change if video.wanted.light == "darker" else change
    return (score + float(np.clip(towards / math.log(1.6), -1, 1))) / 2


MEASURES: dict[str, dict[str, Measure]] = {
    "quality": {
        "sharpness": Measure("width of edges, thousandths of the frame", 2.0, sharpness),
        "smoothness": Measure("distance from a smooth path, thousandths of the frame", 4.0, smoothness),
        "recognisable": Measure("overlap with an ideal shape", 0.03, recognisable),
        "consistency": Measure("change of colours and shape, of 255", 4.0, consistency),
        "motion": Measure("amount of motion against the caption", 0.25, motion_amount),
    },
    "faithfulness": {
        "spatial": Measure("share of colour, shape, background and place that are right", 0.1, spatial),
        "temporal": Measure("motion and light as asked, -1 to 1", 0.15, temporal),
    },
}
"""Question -> reason -> its measure. The keys are those of evaluation.juice.questions."""


def reasons_table() -> str:
    """Return the table of docs/evaluation.md."""
    rows = [
        (question, reason, each.title, f"{each.threshold:g}")
        for question, reasons in MEASURES.items()
        for reason, each in reasons.items()
    ]
    return markdown(("question", "reason", "measured", "threshold"), rows)


def _residual(basis: np.ndarray, values: np.ndarray) -> float:
    """Return the mean square of what a least-squares fit of the basis [n, k] leaves of values [n]."""
    fit, *_ = np.linalg.lstsq(basis, values, rcond=None)
    return float(np.square(values - basis @ fit).mean())


def _line(colours: np.ndarray) -> np.ndarray:
    """Return the straight line over time through colours [T, 3], without its NaN frames."""
    time = np.arange(len(colours))
    known = ~np.isnan(colours[:, 0])
    if known.sum() < 2:
        return colours
    return np.stack([np.polyval(np.polyfit(time[known], each[known], 1), time) for each in colours.T], 1)


def _slope(video: Watched, column: int, values: Callable = np.asarray) -> float:
    """Return the change over the whole clip of a straight line through x (1), y (2) or radius (3)."""
    if len(video.path) < 2:
        return 0.0
    return float(np.polyfit(video.path[:, 0], values(video.path[:, column]), 1)[0]) * (len(video.frames) - 1)


def _turned(video: Watched) -> float:
    """Return the degrees that the shape turns, taking the shorter way between frames."""
    angles = [s.angle for _, s in video.seen if s.shape == video.shape]
    if video.shape in ("", "circle") or len(angles) < 2:
        return 0.0
    period = SYMMETRY[video.shape]
    return abs(float(((np.diff(angles) + period / 2) % period - period / 2).sum()))


def _amount(video: Watched) -> tuple[float, tuple[float, float]]:
    """Return the amount of motion of the kind that the caption asks for, and the range of the world."""
    motion, speed = video.wanted.motion, video.wanted.speed
    if not len(video.path):
        return 0.0, (STILLNESS, math.inf)
    x, y, radius = video.path[:, 1:].T
    if motion in DIRECTIONS:
        return math.hypot(np.ptp(x), np.ptp(y)), TRAVEL[speed]
    if motion.startswith("getting"):
        low, high = GROWTH[speed]
        return math.log(radius.max() / radius.min()), (math.log(low), math.log(high))
    if motion == "spinning":
        return _turned(video), TURN[speed]
    if motion == "bouncing":
        return float(np.ptp(y)), HOP[speed]
    return STILLNESS + max(0.0, _unrest(video) - STILLNESS), (STILLNESS, STILLNESS)


def _unrest(video: Watched) -> float:
    """Return the largest change of place or radius, in units of the frame."""
    return float(np.ptp(video.path[:, 1:], 0).max()) if len(video.path) else 0.0


def _progress(video: Watched) -> float:
    """Return the progress of the motion asked for, as a share of the smallest one: -1 (opposite) to 1."""
    motion, speed = video.wanted.motion, video.wanted.speed
    if not len(video.path):
        return 0.0
    if motion in DIRECTIONS:
        across, down = DIRECTIONS[motion]
        share = (across * _slope(video, 1) + down * _slope(video, 2)) / TRAVEL[speed][0]
    elif motion.startswith("getting"):
        sign = 1 if motion == "getting bigger" else -1
        share = sign * _slope(video, 3, np.log) / math.log(GROWTH[speed][0])
    elif motion == STILL:
        share = 1 - max(0.0, _unrest(video) - STILLNESS) / STILLNESS
    else:
        share = _amount(video)[0] / _amount(video)[1][0]
    return float(np.clip(share, -1, 1))
