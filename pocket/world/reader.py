"""Reader of pocket clips: recognises colour, shape and motion by segmentation, without the caption."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import torch

from .render import coverage
from .vocabulary import COLOURS, SHAPES

TEMPLATE = 48  # pixels per side of a normalised mask
REACH = 2.3  # half the side of a normalised mask, in units of sqrt(area / pi)
SYMMETRY = {"circle": 360.0, "square": 90.0, "triangle": 120.0, "star": 72.0, "cross": 90.0}
STEP = 4  # degrees between templates
CONTRAST = 40  # of 255, in any channel, between a shape and its background
SMALLEST = 40  # pixels; what is smaller is no shape


@dataclass(frozen=True)
class Sight:
    """Content of one frame. Lengths are in units of the frame."""

    colour: str
    shape: str
    x: float
    y: float
    radius: float  # of the circle of the same area
    angle: float  # degrees, modulo the shape's symmetry
    match: float  # overlap with the best template, 0..1


@dataclass(frozen=True)
class Reading:
    """Content of a clip. `sights` is None for frames without a shape."""

    sights: list[Sight | None]
    motion: str
    drift: float  # change of the mean background from first to last frame, 0..255

    @property
    def present(self) -> bool:
        return all(self.sights)

    def majority(self, field: str) -> str:
        values = [getattr(s, field) for s in self.sights if s]
        return max(set(values), key=values.count) if values else ""


def read_clip(frames: np.ndarray, colour: str = "") -> Reading:
    """Read frames: uint8 [frames, h, w, 3], RGB, one shape in view.

    colour: of several shapes, read the one of this colour.
    """
    backgrounds = [border_background(frame.astype(np.float32)) for frame in frames]
    sights = [_sight(frame.astype(np.float32), b, colour) for frame, b in zip(frames, backgrounds, strict=True)]
    drift = float(np.abs(backgrounds[-1].mean((0, 1)) - backgrounds[0].mean((0, 1))).max())
    return Reading(sights, read_motion(sights), drift)


def read_motion(sights: list[Sight | None]) -> str:
    """Return the motion of a trajectory, or "" if fewer than half of the frames show a shape."""
    seen = [s for s in sights if s]
    if len(seen) < max(2, len(sights) // 2):
        return ""
    x, y, radius = (np.array([getattr(s, name) for s in seen]) for name in ("x", "y", "radius"))
    growth = radius[-2:].mean() / radius[:2].mean()
    net = x[-1] - x[0], y[-1] - y[0]
    if growth > 1.15 or growth < 1 / 1.15:
        return "getting bigger" if growth > 1 else "getting smaller"
    if np.ptp(y) > 0.1 and abs(net[1]) < 0.4 * np.ptp(y) and abs(net[0]) < 0.1:
        return "bouncing"
    turns = abs(_turned(seen)) > 35
    # A triangle's centroid moves on a circle while the triangle spins.
    if turns and max(map(abs, net)) < 0.1:
        return "spinning"
    if max(map(abs, net)) > 0.06:
        if abs(net[0]) > abs(net[1]):
            return "moving right" if net[0] > 0 else "moving left"
        return "moving down" if net[1] > 0 else "moving up"
    return "spinning" if turns else "still"


def _turned(seen: list[Sight]) -> float:
    """Return the degrees turned over the clip, taking the shorter way between frames."""
    shape = max({s.shape for s in seen}, key=[s.shape for s in seen].count)
    period = SYMMETRY[shape]
    if shape == "circle":
        return 0.0
    steps = np.diff([s.angle for s in seen if s.shape == shape])
    return float(((steps + period / 2) % period - period / 2).sum())


def border_background(frame: np.ndarray) -> np.ndarray:
    """Return the background [h, w, 3]: a plane per channel, fitted to the border without shapes at the edge."""
    h, w = frame.shape[:2]
    yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
    edge = np.ones((h, w), bool)
    edge[4:-4, 4:-4] = False
    basis = np.stack([np.ones_like(xx), xx / w - 0.5, yy / h - 0.5], -1)
    points, values = basis[edge], frame[edge]
    keep = np.abs(values - np.median(values, 0)).max(1) < 60
    for _ in range(2):
        plane, *_ = np.linalg.lstsq(points[keep], values[keep], rcond=None)
        keep = np.abs(values - points @ plane).max(1) < 25
        if keep.sum() < 50:
            break
    return basis @ plane


def find_shape(frame: np.ndarray, background: np.ndarray, colour: str = "") -> tuple[np.ndarray, np.ndarray] | None:
    """Return the mask of the largest shape, uint8 [h, w], and its centre (x, y) in pixels; None if there is none.

    frame, background: float32 [h, w, 3]. colour: only pixels of this colour count.
    """
    light = max(0.3, float(background.max()) / 246)
    different = (np.abs(frame - background).max(-1) > CONTRAST * min(1.0, light + 0.2)).astype(np.uint8)
    if colour:
        distances = np.stack([np.abs(frame - rgb).sum(-1) for rgb in COLOURS.values()])
        different &= distances.argmin(0) == list(COLOURS).index(colour)
    count, labels, stats, centres = cv2.connectedComponentsWithStats(different)
    if count < 2:
        return None
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    if stats[largest, cv2.CC_STAT_AREA] < SMALLEST:
        return None
    return (labels == largest).astype(np.uint8), centres[largest]


def _sight(frame: np.ndarray, background: np.ndarray, colour: str) -> Sight | None:
    found = find_shape(frame, background, colour)
    if found is None:
        return None
    mask, centre = found
    size = frame.shape[0]
    radius = np.sqrt(mask.sum() / np.pi)
    shape, angle, match = _match(mask, centre, radius)
    inner = cv2.erode(mask, np.ones((5, 5), np.uint8))
    rgb = np.median(frame[(inner if inner.any() else mask) > 0], 0)
    x, y = (centre + 0.5) / size
    return Sight(_nearest_colour(rgb), shape, float(x), float(y), radius / size, angle, match)


def _nearest_colour(rgb: np.ndarray) -> str:
    return min(COLOURS, key=lambda name: float(np.abs(rgb - COLOURS[name]).sum()))


def _match(mask: np.ndarray, centre: np.ndarray, radius: float) -> tuple[str, float, float]:
    scale = TEMPLATE / (2 * REACH * radius)
    shift = TEMPLATE / 2 - 0.5 - centre * scale
    warp = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32)
    small = cv2.warpAffine(mask.astype(np.float32), warp, (TEMPLATE, TEMPLATE), flags=cv2.INTER_AREA) > 0.5
    names, angles, templates = _templates()
    both = (templates & small).sum((1, 2))
    overlap = both / np.maximum(1, (templates | small).sum((1, 2)))
    best = int(np.argmax(overlap))
    return names[best], angles[best], float(overlap[best])


@cache
def _templates() -> tuple[list[str], list[float], np.ndarray]:
    """Return names, angles and masks of every shape at every angle, of equal area and around the centroid."""
    names, angles, masks = [], [], []
    for shape in SHAPES:
        turns = [0.0] if shape == "circle" else np.arange(0, SYMMETRY[shape], STEP)
        for degrees in turns:
            fine = 512
            angle = torch.tensor([np.deg2rad(degrees)], dtype=torch.float32)
            half = torch.tensor([0.5])
            mask = (coverage(shape, half, half, torch.tensor([0.25]), angle, fine)[0] > 0.5).numpy().astype(np.uint8)
            radius = np.sqrt(mask.sum() / np.pi)
            centre = np.array([axis.mean() for axis in np.nonzero(mask)[::-1]])
            scale = TEMPLATE / (2 * REACH * radius)
            shift = TEMPLATE / 2 - 0.5 - centre * scale
            warp = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32)
            resized = cv2.warpAffine(mask.astype(np.float32), warp, (TEMPLATE, TEMPLATE), flags=cv2.INTER_LINEAR)
            names.append(shape)
            angles.append(float(degrees))
            masks.append(resized > 0.5)
    return names, angles, np.stack(masks)
