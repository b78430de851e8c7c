import pytest
import torch
from emu_video.diffusion.resize import downscaled, matched, resized, upsampled


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


def discs(size):
    """Two frames of a disc with a sharp edge."""
    y, x = torch.meshgrid(*2 * [(torch.arange(size) + 0.5) / size], indexing="ij")
    distance = ((x - 0.4) ** 2 + (y - 0.5) ** 2).sqrt()
    return torch.stack([(distance < radius).float() for radius in (0.3, 0.2)])[..., None].repeat(1, 1, 1, 3)


def psnr(images, truth):
    return -10 * (images - truth).square().mean().log10().item()


@pytest.mark.parametrize("small_size", [32, 40])
def test_a_matched_video_has_the_colours_of_the_small_one_and_the_edges_of_its_own(small_size):
    truth = 0.1 + 0.8 * discs(64)
    small = torch.nn.functional.interpolate(truth.movedim(-1, 1), small_size, mode="area").movedim(1, -1)
    changed = 0.9 * truth + torch.tensor([0.08, 0.02, 0.0])  # sharp, in other colours
    after = matched(changed, small)
    assert psnr(after, truth) > psnr(changed, truth) + 10
    assert psnr(after, truth) > psnr(resized(small, 64, 64), truth) + 5
    again = torch.nn.functional.interpolate(after.movedim(-1, 1), small_size, mode="area").movedim(1, -1)
    assert (again - small).abs().mean() < 1 / 255
    torch.testing.assert_close(matched(changed, small, 0.0), changed)
    torch.testing.assert_close(matched(changed, small, 0.5), (changed + after) / 2)


@pytest.mark.parametrize("shape", [(2, 64, 64, 3), (2, 32, 24, 3), (3, 32, 32, 3), (2, 128, 128, 3)])
def test_only_the_same_video_is_matched(shape):
    with pytest.raises(ValueError, match="use the same video before and after it was upscaled, with all of its frames"):
        matched(torch.zeros(2, 64, 64, 3), torch.zeros(shape))


def test_frames_of_another_precision_are_matched():
    images, small = torch.rand(2, 8, 8, 3), torch.rand(2, 4, 4, 3)
    exact = matched(images.half().float(), small)
    for one, other in ((images.half(), small), (images.half().float(), small.double())):
        assert torch.allclose(matched(one, other).float(), exact, atol=1e-5)
