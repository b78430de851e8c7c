import pytest
import torch
from emu_video.diffusion.known_frames import concat_conditioning, place
from emu_video.diffusion.schedule import Schedule
from emu_video.training.objective import (
    Dropout,
    drop_conditioning,
    first_frames,
    known_frames,
    random_known,
    sample_timesteps,
    v_error,
)


def test_timesteps_reach_the_last_and_favour_noise():
    t = sample_timesteps(20_000, 1000, torch.Generator().manual_seed(0))
    assert t.min() >= 0 and t.max() == 999
    assert 0.04 < (t == 999).float().mean() < 0.07
    assert t.float().mean() > 600


def test_text_is_dropped_alone_or_with_the_frames_never_the_frames_alone():
    text, both = drop_conditioning(20_000, Dropout(0.1, 0.2), torch.Generator().manual_seed(0))
    assert not (both & ~text).any()
    assert abs(both.float().mean() - 0.2) < 0.01 and abs((text & ~both).float().mean() - 0.1) < 0.01


def test_the_true_v_has_no_error_and_at_the_last_step_it_is_minus_x0():
    schedule = Schedule.from_betas(zero_terminal_snr=True)
    x0 = torch.randn(4, 4, 2, 2)
    t = torch.tensor([999, 999, 999, 999])
    error, _, noisy = v_error(lambda x, t: -x0, x0, t, schedule, torch.Generator().manual_seed(1))
    assert error.max() < 1e-12
    again = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(noisy, again)  # no trace of x0 is left


def test_known_frames_are_appended_after_the_noisy_channels():
    schedule = Schedule.from_betas(zero_terminal_snr=True)
    seen = []
    x0, known = torch.randn(8, 4, 2, 2), torch.randn(8, 5, 2, 2)

    def denoiser(x, t):
        seen.append(x)
        return x[:, :4]

    v_error(denoiser, x0, torch.full((8,), 500), schedule, torch.Generator().manual_seed(1), known)
    assert seen[0].shape == (8, 9, 2, 2) and torch.equal(seen[0][:, 4:], known)


def test_first_frames_are_known_unless_dropped():
    x0 = torch.randn(3, 8, 4, 2, 2)
    known = first_frames(x0, torch.tensor([False, True, False]))
    assert torch.equal(known[0, 0, :4], x0[0, 0]) and known[2, 0, 4].eq(1).all()
    assert known[1].eq(0).all() and known[:, 1:].eq(0).all()


def test_known_frames_are_those_that_sampling_places():
    """What the layers see in training is what the nodes give them."""
    x0 = torch.randn(2, 8, 4, 2, 2)
    mask = torch.zeros(2, 8, dtype=torch.bool)
    mask[0, [0, 7]] = mask[1, :3] = True
    known = known_frames(x0, mask)
    for clip, each, positions in zip(x0, known, ([0, 7], [0, 1, 2]), strict=True):
        assert torch.equal(each, concat_conditioning(*place(clip[positions], positions, 8)))


def test_random_patterns_cover_all_uses():
    masks = random_known(4000, 8, torch.Generator().manual_seed(0))
    seen = {tuple(mask.nonzero().flatten().tolist()): 0 for mask in masks}
    for mask in masks:
        seen[tuple(mask.nonzero().flatten().tolist())] += 1
    starts = [(0, 1), (0, 1, 2), (0, 1, 2, 3)]
    spread = [tuple(range(offset, 8, step)) for step in (2, 3, 4) for offset in range(step)]
    assert set(seen) == {(0,), (0, 7), *starts, *spread}
    assert abs(seen[(0,)] / 4000 - 0.4) < 0.03 and abs(seen[(0, 7)] / 4000 - 0.2) < 0.03
    assert abs(sum(seen[s] for s in starts) / 4000 - 0.2) < 0.03
    assert not masks.all(1).any() and masks.any(1).all()  # something is known of every clip, never all
    assert torch.equal(masks, random_known(4000, 8, torch.Generator().manual_seed(0)))


def test_clips_too_short_for_patterns():
    with pytest.raises(ValueError, match="Clips of 3 frames leave too little"):
        random_known(2, 3, torch.Generator())
