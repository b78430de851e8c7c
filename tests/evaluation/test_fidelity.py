"""PSNR and SSIM against closed forms."""

import math

import numpy as np
import pytest
import torch
from emu_video.evaluation.metrics.fidelity import psnr, ssim


@pytest.fixture
def video():
    return np.random.default_rng(0).integers(20, 236, (3, 24, 32, 3), np.uint8)


def test_psnr_of_a_steady_error(video):
    assert psnr(video + 5, video) == pytest.approx(20 * math.log10(255 / 5))
    assert psnr(video, video) == pytest.approx(78.13, abs=0.01)


def test_arrays_and_tensors_in_either_range_are_alike(video):
    tensor = torch.from_numpy(video).float() / 255
    assert psnr(tensor, video + 5) == pytest.approx(psnr(video, video + 5), abs=1e-4)
    assert ssim(tensor, video) == pytest.approx(1, abs=1e-5)


def test_ssim_of_one_picture_and_of_its_negative(video):
    assert ssim(video[0], video[0]) == pytest.approx(1)
    assert ssim(255 - video[0], video[0]) < -0.5


def test_unlike_sizes_are_named(video):
    with pytest.raises(ValueError, match=r"\(3, 24, 32, 3\).*\(2, 24, 32, 3\)"):
        psnr(video, video[:2])
    with pytest.raises(ValueError, match="at least 11 x 11"):
        ssim(video[:, :8], video[:, :8])
