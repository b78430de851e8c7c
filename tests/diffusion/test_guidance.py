import pytest
import torch
from emu_video.diffusion.guidance import emu_guidance, rescale_guidance


def predictions(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(6, 4, 5, 5, generator=generator) for _ in range(3)]


def test_equation_1():
    uncond, image, full = predictions()
    expected = uncond + 2.0 * (image - uncond) + 7.5 * (full - image)
    torch.testing.assert_close(emu_guidance(uncond, image, full, 2.0, 7.5), expected, rtol=1e-5, atol=1e-5)


def test_limits_are_exact():
    uncond, image, full = predictions()
    assert torch.equal(emu_guidance(uncond, image, full, 1.0, 1.0), full)
    assert torch.equal(emu_guidance(uncond, image, full, 1.0, 0.0), image)
    assert torch.equal(emu_guidance(uncond, image, full, 0.0, 0.0), uncond)


def test_rescale_gives_each_video_the_conditional_spread():
    _, guided, full = predictions()
    guided = guided * torch.tensor([2.0, 3.0, 4.0, 5.0, 6.0, 7.0]).reshape(6, 1, 1, 1)
    videos = rescale_guidance(guided, full, 1.0, frames=3).reshape(2, -1)
    torch.testing.assert_close(videos.std(1), full.reshape(2, -1).std(1))


def test_rescale_keeps_the_frames_of_a_video_in_proportion():
    _, guided, full = predictions()
    ratio = rescale_guidance(guided, full, 0.7, frames=6) / guided
    torch.testing.assert_close(ratio, ratio[0, 0, 0, 0].expand_as(ratio))


def test_rescale_of_zero_changes_nothing():
    _, guided, full = predictions()
    assert torch.equal(rescale_guidance(guided, full, 0.0, frames=3), guided)


def test_rescale_refuses_frames_that_do_not_divide_the_batch():
    _, guided, full = predictions()
    with pytest.raises(ValueError, match="6 frames cannot be divided into videos of 4 frames"):
        rescale_guidance(guided, full, 0.7, frames=4)
