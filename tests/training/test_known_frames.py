import pytest
import torch
from emu_video.diffusion.known_frames import concat_conditioning, place
from emu_video.diffusion.schedule import Schedule
from emu_video.training.known_frames import (
    KnownFrames,
    first_frames,
    given_positions,
    known_frames,
    random_known,
    turn_round,
)


def masks(known, frames=8, count=300):
    generator = torch.Generator().manual_seed(0)
    return {tuple(known.mask(frames, generator).nonzero().flatten().tolist()) for _ in range(count)}


def test_patterns():
    assert masks(KnownFrames("first")) == {(0,)}
    assert masks(KnownFrames("first and last")) == {(0, 7)}
    assert masks(KnownFrames("first few")) == {(0, 1), (0, 1, 2), (0, 1, 2, 3)}
    assert masks(KnownFrames("none")) == {()}
    assert masks(KnownFrames("every n-th")) == {tuple(range(o, 8, n)) for n in (2, 3, 4) for o in range(n)}
    assert masks(KnownFrames("every n-th", factor=4, margin=4), 37) == {tuple(range(4, 33, 4))}
    assert masks(KnownFrames(downscale=4)) == {tuple(range(8))}
    assert len(masks(KnownFrames("mixed"))) == 14


def test_interpolation_needs_a_length_that_comes_out():
    with pytest.raises(ValueError, match=r"Clips of 16 frames do not fit an interpolation by 4 with margins of 4.*37"):
        given_positions(16, 4, 4)


def test_noise_of_given_frames_is_in_the_mask():
    x0, schedule = torch.randn(5, 4, 2, 2), Schedule.from_betas()
    mask = torch.tensor([True, False, True, False, False])
    shares = set()
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        given = KnownFrames(noise=250, exact=0.5).conditioning(x0, mask, schedule, generator)
        assert given[~mask].eq(0).all()
        share = given[0, 4, 0, 0].item()
        assert torch.equal(given[0, :4], x0[0]) == (share == 1) and given[mask, 4].eq(share).all()
        shares.add(share)
    exact = [share for share in shares if share == 1]
    assert exact and len(shares) > 10 and min(shares) >= schedule.alphas_cumprod[250] - 1e-6


def test_super_resolution_gives_every_frame_of_the_smaller_version():
    small, mask = torch.randn(5, 4, 8, 8), torch.ones(5, dtype=torch.bool)
    given = KnownFrames(downscale=2).conditioning(small, mask, Schedule.from_betas(), torch.Generator())
    assert given[:, 4].eq(1).all() and torch.equal(given[:, :4], small)


def test_clips_that_turn_round():
    mask = torch.tensor([[True, True, True, False, False, False], [True, False, False, False, False, True]])
    turned = torch.tensor([True, True])
    assert turn_round(mask, turned).tolist() == [[2, 1, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5]]
    assert turn_round(mask, ~turned).tolist() == [[0, 1, 2, 3, 4, 5]] * 2


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
