"""Crops of frames of the world, for the autoencoder and its decoder.

Frames are drawn once for a stage, then cut around shapes or anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..recipe import ClipSet
from ..world import SIZE, render_clips
from .clips import scenes_of
from .geometry import geometry_of

CHUNK = 32  # clips drawn at a time


@dataclass(frozen=True)
class Frames:
    """Frames of n clips on one device.

    pictures: [n, T, 3, h, w] uint8. covered: how much shapes cover, [n, T, h, w] float16.
    centres: of the shapes, [n, T, BODIES, 2] in units of the frame. A clip of one shape has it twice.
    """

    pictures: Tensor
    covered: Tensor
    centres: Tensor

    @classmethod
    def of(cls, clips: ClipSet, device: torch.device) -> Frames:
        scenes = scenes_of(clips)
        parts = [render_clips(scenes[i : i + CHUNK], device=device) for i in range(0, len(scenes), CHUNK)]
        pictures, covered = zip(*((picture, cover.half()) for picture, cover in parts), strict=True)
        centres = geometry_of(clips)[..., :2].to(device)
        centres = torch.where(centres.isnan(), centres[:, :, :1], centres)
        return cls(torch.cat(pictures), torch.cat(covered), centres)

    def draw(self, count: int, side: int, reach: Tensor, generator: torch.Generator, grid: int = 1) -> Crops:
        """Draw windows of `side` pixels inside the frames.

        reach: [count], largest distance between the middles of window and shape, in units of the frame. grid: windows
        start at multiples of it. generator: on the frames' device.
        """
        device, (clips, frames, bodies) = generator.device, self.centres.shape[:3]
        clip, frame, body = (
            torch.randint(0, n, (count,), generator=generator, device=device) for n in (clips, frames, bodies)
        )
        shift = (2 * torch.rand(count, 2, generator=generator, device=device) - 1) * reach[:, None]
        start = (self.centres[clip, frame, body] + shift) * SIZE - side / 2
        corner = start.clamp(0, SIZE - side).long() // grid * grid
        return Crops(clip, frame, corner, side)


@dataclass(frozen=True)
class Crops:
    """Windows of `side` pixels. clip, frame: [n]. corner: pixels from the left and the top, [n, 2]."""

    clip: Tensor
    frame: Tensor
    corner: Tensor
    side: int

    def cut(self, values: Tensor, cell: int = 1) -> Tensor:
        """Return the windows [n, C, side / cell, side / cell] of values [clips, T, C, h, w].

        cell: pixels of a side of a value.
        """
        steps = torch.arange(self.side // cell, device=self.corner.device)
        columns, rows = (self.corner // cell)[..., None].add(steps).unbind(1)
        clip, frame = self.clip[:, None, None], self.frame[:, None, None]
        return values[clip, frame, :, rows[:, :, None], columns[:, None]].movedim(-1, 1)


def edge_weights(covered: Tensor) -> Tensor:
    """Return loss weights [n, 1, h, w] from the coverage [n, 1, h, w]: 1 on the background, 3 on shapes, 7 at edges."""
    inside = F.max_pool2d(covered, 9, 1, 4)
    core = -F.max_pool2d(-covered, 9, 1, 4)
    return 1 + 2 * inside + 4 * (inside - core)


def picture_error(error: Tensor, weight: Tensor) -> Tensor:
    """Return the mean loss of decoded pictures with this difference from the true ones."""
    return (weight * (error.abs() + 4 * error.square())).mean()
