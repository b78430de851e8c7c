"""Measures on embeddings against closed forms."""

import numpy as np
import pytest
import torch
from emu_video.evaluation.metrics.embeddings import (
    frame_consistency,
    frechet_distance,
    image_similarity,
    polynomial_mmd,
    subject_consistency,
    text_alignment,
)


def at(*degrees: float) -> torch.Tensor:
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], -1) * torch.arange(1, len(degrees) + 1)[:, None]


def cosine(degrees: float) -> float:
    return float(np.cos(np.deg2rad(degrees)))


def test_cosines_do_not_depend_on_lengths():
    frames = at(0, 30, 60)
    assert frame_consistency(frames) == pytest.approx(cosine(30), abs=1e-6)
    assert subject_consistency(frames) == pytest.approx((cosine(30) + (cosine(30) + cosine(60)) / 2) / 2, abs=1e-6)
    assert image_similarity(frames, at(0)[0]) == pytest.approx((1 + cosine(30) + cosine(60)) / 3, abs=1e-6)
    assert text_alignment(frames, at(90)[0]) == pytest.approx(100 * (0 + cosine(60) + cosine(30)) / 3, abs=1e-4)


def test_frechet_distance_of_gaussians():
    """|difference of means|^2 + sum of (sd - sd')^2 for independent coordinates."""
    rng = np.random.default_rng(0)
    one, other = rng.normal(0, 1, (20000, 3)), rng.normal([1, 0, 0], [1, 2, 3], (20000, 3))
    assert frechet_distance(one, other) == pytest.approx(1 + 1 + 4, rel=0.03)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-6)


def test_polynomial_mmd_is_unbiased():
    rng = np.random.default_rng(0)
    same = [polynomial_mmd(rng.normal(1, 1, (30, 4)), rng.normal(1, 1, (30, 4))) for _ in range(400)]
    assert abs(np.mean(same)) < 3 * np.std(same) / 20
    assert polynomial_mmd(rng.normal(1, 1, (100, 4)), rng.normal(2, 1, (100, 4))) > 10 * np.std(same)


def test_polynomial_mmd_of_two_points_by_hand():
    """Kernel (x y + 1)^3 of {0, 1} and {2, 3}: off-diagonal means 1 and 343, cross mean (1 + 1 + 27 + 64) / 4."""
    one, other = np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]])
    assert polynomial_mmd(one, other, degree=3, constant=1) == pytest.approx(1 + 343 - 2 * 93 / 4)


@pytest.mark.parametrize("distance", [frechet_distance, polynomial_mmd])
def test_sets_that_cannot_be_compared_are_refused(distance):
    with pytest.raises(ValueError, match=r"\(4, 2\) and \(4, 3\)"):
        distance(np.zeros((4, 2)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match="2 videos in each, got 1"):
        distance(np.zeros((1, 2)), np.zeros((4, 2)))
