"""Error of a drawn shape against an ideal one: rounded corners, circles that are not round."""

from __future__ import annotations

import numpy as np
import torch

from .background import background
from .reader import Sight, read_clip
from .render import coverage
from .vocabulary import SHAPES

CORE = 0.45  # of the radius: a disc that every shape covers
ROUNDS = 12
STEPS = (0.01, 0.01, 0.02, 0.1)  # first search steps of x, y and radius (of the frame) and of the angle (radians)


def shape_error(frame: np.ndarray, shapes: tuple[str, ...] = SHAPES) -> float:
    """Return the area between the drawn shape and the nearest ideal shape, over the drawn area.

    Args:
        frame: uint8 [h, w, 3] RGB with one shape in view.
        shapes: which ideal shapes count.

    Returns:
        0.0 for an ideal shape, about 0.05 for a visibly wobbly one; NaN if no shape is seen.
    """
    (sight,) = read_clip(frame[None]).sights
    if sight is None:
        return float("nan")
    drawn = torch.from_numpy(drawn_coverage(frame.astype(np.float32), sight))
    return min(_distance(drawn, shape, sight) for shape in shapes) / float(drawn.sum())


def drawn_coverage(frame: np.ndarray, sight: Sight) -> np.ndarray:
    """Return the coverage of each pixel by the seen shape, 0..1 [h, w], from the colours of a frame [h, w, 3]."""
    plane, around = background(frame)
    size = len(frame)
    yy, xx = (np.mgrid[0:size, 0:size] + 0.5) / size
    colour = np.median(frame[np.hypot(xx - sight.x, yy - sight.y) < CORE * sight.radius], 0)
    contrast = colour - plane
    share = ((frame - plane) * contrast).sum(-1) / np.maximum((contrast * contrast).sum(-1), 1.0)
    return np.where(around, 0.0, np.clip(share, 0, 1)).astype(np.float32)


def _distance(drawn: torch.Tensor, shape: str, sight: Sight) -> float:
    """Return the smallest area between `drawn` and an ideal `shape`, by a pattern search around what was seen."""
    size = drawn.shape[0]
    unit = coverage(shape, *(torch.tensor([v]) for v in (0.5, 0.5, 0.25, 0.0)), size=size).sum() / size**2
    radius = 0.25 * float((drawn.sum() / size**2 / unit).sqrt())
    angles = torch.linspace(0, 2 * torch.pi, 25)[:-1]
    starts = torch.stack([*(torch.full_like(angles, v) for v in (sight.x, sight.y, radius)), angles], 1)
    best = starts[_areas(drawn, shape, starts).argmin()]
    steps = torch.diag(torch.tensor(STEPS))
    for _ in range(ROUNDS):
        candidates = torch.cat([best[None], best + steps, best - steps])
        areas = _areas(drawn, shape, candidates)
        best = candidates[areas.argmin()]
        if areas.argmin() == 0:
            steps = steps / 2
    return float(_areas(drawn, shape, best[None]).min())


def _areas(drawn: torch.Tensor, shape: str, candidates: torch.Tensor) -> torch.Tensor:
    ideal = coverage(shape, *candidates.unbind(1), size=drawn.shape[0])
    return (ideal - drawn).abs().sum((1, 2))
