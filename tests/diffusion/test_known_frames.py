import pytest
import torch
from emu_video.diffusion.known_frames import (
    add_known_noise,
    concat_conditioning,
    interleave,
    mask_with_noise_level,
    place,
)
from emu_video.diffusion.schedule import Schedule


def test_only_the_first_frame_is_known():
    latent = torch.randn(1, 4, 3, 5)
    known, mask = place(latent, [0], 8)
    assert known.shape == (8, 4, 3, 5) and mask.shape == (8, 1, 3, 5)
    assert torch.equal(known[0], latent[0]) and not known[1:].any()
    assert (mask[0] == 1).all() and not mask[1:].any()


def test_frames_lie_where_they_are_placed():
    latents = torch.randn(3, 4, 3, 5)
    known, mask = place(latents, [6, 0, 3], 8)
    assert torch.equal(known[[6, 0, 3]], latents) and not known[[1, 2, 4, 5, 7]].any()
    assert mask.shape == (8, 1, 3, 5) and mask.mean((1, 2, 3)).tolist() == [1, 0, 0, 1, 0, 0, 1, 0]


def test_interleaved_positions():
    """Emu Video: 8 frames to 37, three new ones in each of 7 gaps and four on either side."""
    positions, frames = interleave(8, 4, (4, 4))
    assert list(positions) == [4, 8, 12, 16, 20, 24, 28, 32] and frames == 37
    positions, frames = interleave(8, 4, (0, 0))
    assert list(positions) == [0, 4, 8, 12, 16, 20, 24, 28] and frames == 29
    positions, frames = interleave(3, 2, (1, 3))
    assert list(positions) == [1, 3, 5] and frames == 9


def test_noise_on_known_frames_is_x_t():
    schedule = Schedule.from_betas(zero_terminal_snr=True)
    latents = torch.randn(64, 4, 8, 8)
    noisy = add_known_noise(latents, 100, schedule, torch.Generator().manual_seed(0))
    alpha, sigma = schedule.alpha(100).item(), schedule.sigma(100).item()
    noise = (noisy - alpha * latents) / sigma
    assert abs(noise.mean()) < 0.05 and abs(noise.std() - 1) < 0.05
    assert (noise[0] - noise[1]).abs().max() > 1  # every frame has its own
    again = add_known_noise(latents, 100, schedule, torch.Generator().manual_seed(0))
    other = add_known_noise(latents, 100, schedule, torch.Generator().manual_seed(1))
    assert torch.equal(again, noisy) and not torch.equal(other, noisy)


def test_no_noise_leaves_known_frames_as_they_are():
    latents = torch.randn(2, 4, 8, 8)
    schedule = Schedule.from_betas(zero_terminal_snr=True)
    assert torch.equal(add_known_noise(latents, 0, schedule, torch.Generator()), latents)


def test_a_told_level_is_the_share_of_signal():
    """Scaled-linear betas, rescaled to zero terminal SNR: 0.887 of the power is signal at 100, 0.652 at 250."""
    _, mask = place(torch.randn(2, 4, 3, 3), [1, 3], 5)
    schedule = Schedule.from_betas(zero_terminal_snr=True)
    for level, share in ((0, 1.0), (100, 0.886761), (250, 0.652457)):
        told = mask_with_noise_level(mask, level, schedule)
        assert told.dtype == mask.dtype
        torch.testing.assert_close(told[[1, 3]], torch.full((2, 1, 3, 3), share), rtol=0, atol=1e-6)
        assert not told[[0, 2, 4]].any()


def test_channels_are_latent_then_mask():
    known, mask = place(torch.randn(1, 4, 3, 5), [0], 8)
    together = concat_conditioning(known, mask)
    assert together.shape == (8, 5, 3, 5)
    assert torch.equal(together[:, :4], known) and torch.equal(together[:, 4:], mask)


def test_refusals():
    with pytest.raises(ValueError, match="at least one frame"):
        place(torch.randn(1, 4, 3, 5), [0], 0)
    with pytest.raises(ValueError, match=r"different positions in 0..7, got \[0, 8\]"):
        place(torch.randn(2, 4, 3, 5), [0, 8], 8)
    with pytest.raises(ValueError, match="different positions"):
        place(torch.randn(2, 4, 3, 5), [3, 3], 8)
    with pytest.raises(ValueError, match="different positions"):
        place(torch.randn(1, 4, 3, 5), [-1], 8)
    with pytest.raises(ValueError, match=r"latents \[2, C, h, w\] for 2 positions, got \[3, 4, 3, 5\]"):
        place(torch.randn(3, 4, 3, 5), [0, 1], 8)
    with pytest.raises(ValueError, match="factor of 1 adds no frames"):
        interleave(8, 1, (4, 4))
    with pytest.raises(ValueError, match="0 or more"):
        interleave(8, 4, (0, -1))
