"""Frames between frames on synthetic pictures, where the truth is known."""

import pytest
import torch
import torch.nn.functional as F
from emu_video.benchmarks.interpolation import blending, optical_flow, psnr
from emu_video.optical_flow.between import frames_between


def texture(height: int, width: int, seed: int) -> torch.Tensor:
    """A random picture [H, W, 3] in 0..1 with details of every size, as photographs have them."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.zeros(3, height, width)
    for grain in (4, 8, 16, 32):
        noise = torch.rand(1, 3, height // grain + 2, width // grain + 2, generator=generator)
        picture += grain**0.5 * F.interpolate(noise, (height, width), mode="bicubic")[0]
    low, high = picture.min(), picture.max()
    return ((picture - low) / (high - low)).movedim(0, -1)


def scene(x: int, y: int = 36, size: int = 32, height: int = 96, width: int = 128) -> torch.Tensor:
    """A textured square with its top left corner at (x, y) on a textured ground."""
    picture = 0.5 * texture(height, width, seed=1)
    picture[y : y + size, x : x + size] = 0.5 + 0.5 * texture(size, size, seed=2)
    return picture


def between(first: torch.Tensor, second: torch.Tensor, factor: int = 2) -> list[torch.Tensor]:
    return list(frames_between(torch.stack((first, second)), factor))


def test_moving_square():
    first, truth, second = scene(40), scene(44), scene(48)
    assert psnr(optical_flow(first, second), truth) > psnr(blending(first, second), truth) + 10


def test_motion_is_even_at_every_factor():
    frames = between(scene(40), scene(52), factor=4)
    for x, frame in zip((43, 46, 49), frames, strict=True):
        right = psnr(frame, scene(x))
        assert right == max(psnr(frame, scene(other)) for other in range(40, 53)), x
        assert right > 25


def test_moving_camera():
    world = texture(112, 160, seed=3)
    first, truth, second = (world[8 + 3 * step :, 4 * step :][:96, :128] for step in range(3))
    assert psnr(optical_flow(first, second)[12:-12, 12:-12], truth[12:-12, 12:-12]) > 32


def test_what_stands_still_stays():
    frame = scene(40)
    assert all((new - frame).abs().max() < 1e-5 for new in between(frame, frame, 3))


def test_what_only_one_frame_shows_comes_from_that_frame():
    """A square moves by 16: what it lays bare and what it covers, the strips beside it, are in one frame each."""
    first, truth, second = scene(40), scene(48), scene(56)
    flow, blend = optical_flow(first, second), blending(first, second)
    bare, covered = (slice(36, 68), slice(40, 48)), (slice(36, 68), slice(80, 88))
    for place in (bare, covered):
        assert psnr(flow[place], truth[place]) > psnr(blend[place], truth[place]) + 6


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_nothing_is_blended_across_a_scene_cut(factor):
    first, second = 0.5 * texture(96, 128, seed=4), 1 - 0.5 * texture(96, 128, seed=5)
    for step, new in enumerate(between(first, second, factor), start=1):
        assert torch.equal(new, first if step / factor <= 0.5 else second)


def test_a_large_moving_thing_is_no_cut():
    first, second = scene(8, 16, 64), scene(20, 16, 64)
    new = optical_flow(first, second)
    assert not torch.equal(new, first) and not torch.equal(new, second)


def test_frames_without_structure_are_blended():
    grey, light = torch.full((64, 64, 3), 0.5), torch.full((64, 64, 3), 0.56)
    assert torch.allclose(optical_flow(grey, light), torch.full((64, 64, 3), 0.53), atol=1e-5)


@pytest.mark.parametrize("height, width", [(1, 1), (5, 7), (11, 40), (12, 40), (8, 300), (300, 8), (33, 35)])
def test_every_size(height, width):
    """OpenCV's DIS crashes the process on some small pictures, so they are padded."""
    first, second = texture(height, width, seed=6), texture(height, width, seed=7)
    (new,) = between(first, second)
    assert new.shape == (height, width, 3) and new.isfinite().all() and 0 <= new.min() and new.max() <= 1


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_pictures(channels):
    first, truth, second = (scene(x)[..., [0, 1, 2, 0][-channels:]] for x in (40, 44, 48))
    (new,) = between(first, second)
    assert new.shape == truth.shape
    assert psnr(new, truth) > psnr(blending(first, second), truth) + 6


def test_half_precision_is_computed_in_full():
    first, second = scene(40).half(), scene(48).half()
    assert torch.equal(between(first, second)[0], between(first.float(), second.float())[0])


def test_a_pixel_that_is_no_number_spoils_only_its_surroundings():
    first, second = scene(40), scene(48)
    first[0, 0] = torch.nan
    (new,) = between(first, second)
    assert new[16:].isfinite().all() and new[:, 16:].isfinite().all()


def test_factor_below_two():
    with pytest.raises(ValueError, match="factor is 1: use 2 or more"):
        between(scene(40), scene(48), factor=1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_frames_on_a_gpu():
    images = torch.stack((scene(40), scene(48)))
    for one, other in zip(frames_between(images, 4), frames_between(images, 4, torch.device("cuda")), strict=True):
        torch.testing.assert_close(other.cpu(), one, atol=1e-3, rtol=0)
