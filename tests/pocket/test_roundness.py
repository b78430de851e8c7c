"""The measure of how well a shape is drawn, on ideal shapes and on known faults."""

import cv2
import numpy as np
import pytest
import torch
from emu_video.pocket.world.render import coverage
from emu_video.pocket.world.roundness import shape_error
from emu_video.pocket.world.vocabulary import SHAPES


def frame(alpha: np.ndarray) -> np.ndarray:
    """A red shape on blue-grey with a slight shading."""
    ground = np.array([90.0, 100.0, 140.0]) * (1 + 0.1 * np.linspace(-0.5, 0.5, len(alpha)))[:, None, None]
    return (ground + alpha[..., None] * (np.array([218.0, 38.0, 38.0]) - ground)).round().astype(np.uint8)


def ideal(shape: str, x=0.47, y=0.55, radius=0.2, angle=0.3) -> np.ndarray:
    return coverage(shape, *(torch.tensor([v]) for v in (x, y, radius, angle)))[0].numpy()


@pytest.mark.parametrize("shape", SHAPES)
def test_ideal_shapes_have_no_error(shape):
    assert shape_error(frame(ideal(shape))) < 0.01
    assert shape_error(frame(ideal(shape, radius=0.11, angle=1.0))) < 0.015


@pytest.mark.parametrize("squeeze", [1.1, 1.3])
def test_an_ellipse_is_off_by_what_geometry_says(squeeze):
    """Axes r / k and k r: what lies outside the circle of equal area is 4/pi * (atan(k) - pi/4), twice."""
    grid = np.mgrid[0:512, 0:512] / 512 - 0.5
    fine = ((grid[0] * squeeze) ** 2 + (grid[1] / squeeze) ** 2 < 0.2**2).astype(np.float32)
    alpha = cv2.resize(fine, (128, 128), interpolation=cv2.INTER_AREA)
    expected = 2 * 4 / np.pi * (np.arctan(squeeze) - np.pi / 4)
    assert shape_error(frame(alpha), ("circle",)) == pytest.approx(expected, rel=0.08)


def test_rounded_corners_and_bumps_count():
    square = ideal("square", angle=0.0)
    rounded = cv2.GaussianBlur(square, (0, 0), 6)
    rounded = np.clip((rounded - 0.5) * 6 + 0.5, 0, 1)
    assert shape_error(frame(rounded), ("square",)) > 0.02
    angle = np.arctan2(*(np.mgrid[0:128, 0:128] - 63.5))
    distance = np.hypot(*(np.mgrid[0:128, 0:128] - 63.5))
    potato = np.clip(26 * (1 + 0.06 * np.sin(3 * angle)) - distance + 0.5, 0, 1)
    assert 0.03 < shape_error(frame(potato)) < 0.09


def test_an_empty_frame_has_no_shape():
    assert np.isnan(shape_error(frame(np.zeros((128, 128)))))
