"""Draws shapes with soft edges from signed distances, many frames at once."""

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from .scene import Clip
from .vocabulary import SHAPES

SIZE = 128  # pixels per side


def _fold_star(x: Tensor, y: Tensor) -> Tensor:
    """Return the signed distance to a five-pointed star: outer radius 1.3, inner radius 0.58, one point up."""
    angle = torch.atan2(x, -y)
    sector = 2 * math.pi / 5
    angle = (torch.remainder(angle + sector / 2, sector) - sector / 2).abs()
    radius = torch.sqrt(x * x + y * y)
    px, py = radius * torch.cos(angle), radius * torch.sin(angle)
    tip, notch = 1.3, (0.58 * math.cos(sector / 2), 0.58 * math.sin(sector / 2))
    edge = (notch[0] - tip, notch[1])
    length = math.hypot(*edge)
    return (edge[1] * (px - tip) - edge[0] * py) / length


def signed_distance(shape: str, x: Tensor, y: Tensor) -> Tensor:
    """Return the signed distance, negative inside, in units of the radius. x and y are in the shape's axes, y down."""
    if shape == "circle":
        return torch.sqrt(x * x + y * y) - 1.0
    if shape == "square":
        return torch.maximum(x.abs(), y.abs()) - 0.88
    if shape == "triangle":
        y = y - 0.15
        return torch.maximum(y - 0.62, 0.8660254 * x.abs() - 0.5 * y - 0.62)
    if shape == "star":
        return _fold_star(x, y)
    if shape == "cross":
        x, y = x.abs(), y.abs()
        return torch.minimum(torch.maximum(x - 1.08, y - 0.38), torch.maximum(y - 1.08, x - 0.38))
    raise ValueError(f"The world has no shape '{shape}': use circle, square, triangle, star or cross.")


def coverage(shape: str, cx: Tensor, cy: Tensor, radius: Tensor, angle: Tensor, size: int = SIZE) -> Tensor:
    """Return how much of each pixel the shape covers.

    cx, cy, radius: [n] in units of the frame; angle: [n] in radians, clockwise. Returns [n, size, size] in 0..1.
    """
    grid = (torch.arange(size, dtype=torch.float32, device=cx.device) + 0.5) / size
    dx = (grid[None, None, :] - cx[:, None, None]) / radius[:, None, None]
    dy = (grid[None, :, None] - cy[:, None, None]) / radius[:, None, None]
    cos, sin = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    distance = signed_distance(shape, cos * dx + sin * dy, cos * dy - sin * dx)
    return (0.5 - distance * radius[:, None, None] * size).clamp(0, 1)


def render_clips(clips: list[Clip], size: int = SIZE, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Return pictures [clips, frames, 3, size, size] uint8, and how much shapes cover [clips, frames, size, size]."""

    def values(each: Iterable[np.ndarray]) -> Tensor:
        return torch.tensor(np.stack(list(each)), dtype=torch.float32, device=device)

    frames = len(clips[0].light)
    ramp = torch.linspace(-0.5, 0.5, size, device=device)
    shading = values(c.shading for c in clips)
    shade = 1 + shading[:, 0, None, None] * ramp[None, None, :] + shading[:, 1, None, None] * ramp[None, :, None]
    picture = values(c.backdrop for c in clips)[:, :, None, None] * shade[:, None]
    picture = picture[:, None].repeat(1, frames, 1, 1, 1)
    covered = torch.zeros(len(clips), frames, size, size, device=device)
    for shape in SHAPES:
        found = [(i, b) for i, c in enumerate(clips) for b in c.bodies if b.shape == shape]
        if not found:
            continue
        index = torch.tensor([i for i, _ in found], device=device)
        paths = (values(getattr(b, name) for _, b in found).flatten() for name in ("x", "y", "radius", "angle"))
        alpha = coverage(shape, *paths, size=size).view(len(found), frames, size, size)
        rgb = values(b.rgb for _, b in found)[:, None, :, None, None]
        picture[index] = torch.lerp(picture[index], rgb.expand_as(picture[index]), alpha[:, :, None])
        covered[index] = torch.maximum(covered[index], alpha)
    picture = picture * values(c.light for c in clips)[:, :, None, None, None]
    return picture.round_().clamp_(0, 255).to(torch.uint8), covered
