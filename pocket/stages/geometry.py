"""Geometry of the shapes as a second target of the image model: where each shape is, how large and how turned.

The denoising error says little about the whole of a shape: its edge can be right everywhere but for different circles.
So a linear probe must find the shape of a cell in the features at this cell, and the network has to agree on one shape
everywhere. As with representation alignment (Yu et al. 2024, REPA), training is faster; the probe is discarded.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..recipe import ClipSet
from ..world.vocabulary import SHAPES
from .clips import scenes_of

BODIES = 2  # most shapes of a scene
REACH = 1.3  # radii around a centre in which cells belong to its shape
LENGTH = 1 / 8  # of the frame: unit of the distances in targets
RADIUS = 0.15  # of the frame: a radius whose target is 0
SYMMETRY = {"circle": 0, "square": 4, "triangle": 1, "star": 5, "cross": 4}
"""How often a shape looks the same in one turn around its position. That of a triangle is not its centre."""
TARGETS = 5 + len(SHAPES)


def geometry_of(clips: ClipSet) -> Tensor:
    """Return x, y, radius, angle and the index of the shape of all bodies, [n, T, BODIES, 5]; NaN if there is none."""
    scenes = scenes_of(clips)
    geometry = np.full((len(scenes), clips.frames, BODIES, 5), np.nan, np.float32)
    for i, scene in enumerate(scenes):
        for j, body in enumerate(scene.bodies):
            for k, values in enumerate((body.x, body.y, body.radius, body.angle, SHAPES.index(body.shape))):
                geometry[i, :, j, k] = values
    return torch.from_numpy(geometry)


class Cells(NamedTuple):
    """What there is in cells of h x w.

    targets [n, TARGETS, h, w]: way to the centre of the nearest shape across and down, logarithm of its radius, cosine
    and sine of its angle, one number for each kind of shape. belongs [n, h, w]: whether the cell belongs to this shape.
    owner [n, h, w]: index of this shape.
    """

    targets: Tensor
    belongs: Tensor
    owner: Tensor


def cells_of(geometry: Tensor, size: int) -> Cells:
    """Return what there is in `size` x `size` cells. geometry: [n, BODIES, 5], as of `geometry_of`."""
    places = (torch.arange(size, device=geometry.device) + 0.5) / size
    x, y, radius, angle, shape = geometry[..., None, None].unbind(2)
    across, down = x - places, y - places[:, None]
    distance = (torch.hypot(across, down) / radius).nan_to_num(math.inf)
    nearest, owner = distance.min(1, keepdim=True)

    def of_owner(values: Tensor) -> Tensor:
        return values.nan_to_num().expand_as(distance).gather(1, owner)[:, 0]

    kind = of_owner(shape).long()
    folds = torch.tensor([SYMMETRY[name] for name in SHAPES], device=kind.device)[kind]
    turned, has_angle = folds * of_owner(angle), folds > 0
    found = (
        of_owner(across) / LENGTH,
        of_owner(down) / LENGTH,
        2 * (of_owner(radius).clamp(min=1e-3) / RADIUS).log(),
        turned.cos() * has_angle,
        turned.sin() * has_angle,
    )
    kinds = F.one_hot(kind, len(SHAPES)).movedim(-1, 1)
    return Cells(torch.cat([torch.stack(found, 1), kinds], 1), nearest[:, 0] < REACH, owner[:, 0])


class GeometryProbe(nn.Module):
    """Linear maps from features [n, channels, h, w] of several levels to the targets of their cells."""

    def __init__(self, channels: tuple[int, ...]):
        super().__init__()
        self.maps = nn.ModuleList(nn.Conv2d(each, TARGETS, 1) for each in channels)

    def error(self, features: list[Tensor], cells: list[Cells]) -> Tensor:
        """Return the mean squared error over all cells that belong to a shape, and over the levels."""
        errors = []
        for probe, level, wanted in zip(self.maps, features, cells, strict=False):
            error = (probe(level.float()) - wanted.targets).square().mean(1)
            errors.append(mean_over(error, wanted.belongs))
        return torch.stack(errors).mean()


def mean_over(error: Tensor, counted: Tensor) -> Tensor:
    """Return the mean of `error` where `counted`, of the same shape, is True; 0 if it is nowhere."""
    return (error * counted).sum() / counted.sum().clamp(min=1)
