import pytest
import torch
from emu_video.diffusion.resize import downscaled, resized, upsampled


def test_downscaling_is_the_mean_of_boxes():
    images = torch.rand(2, 6, 9, 3)
    small = downscaled(images, 3)
    assert small.shape == (2, 2, 3, 3)
    torch.testing.assert_close(small[1, 1, 2], images[1, 3:6, 6:9].mean((0, 1)))
    with pytest.raises(ValueError, match="Frames of 9x6 cannot be divided by 4: use multiples of 4"):
        downscaled(images, 4)


def test_resizing_keeps_range_and_plain_pictures():
    images = torch.randint(0, 2, (1, 8, 8, 3)).float()
    large = resized(images, 16, 24)
    assert large.shape == (1, 16, 24, 3) and large.min() == 0 and large.max() == 1
    torch.testing.assert_close(resized(torch.full((1, 4, 4, 3), 0.3), 9, 7), torch.full((1, 9, 7, 3), 0.3))
    assert resized(images, 8, 8) is images


def test_upsampled_is_both_in_turn():
    images = torch.rand(2, 8, 12, 3)
    assert torch.equal(upsampled(images, 2), resized(downscaled(images, 2), 8, 12))
    assert not torch.allclose(upsampled(images, 2), images, atol=0.05)
