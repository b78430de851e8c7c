"""PIA's presets at any length, and own affinities."""

import pytest
import torch
from emu_video.diffusion.affinity import LOOPS, PRESETS, affinities, check_affinities, concat_affinity


@pytest.mark.parametrize("preset", LOOPS)
@pytest.mark.parametrize("frames", [2, 3, 8, 9, 15, 16, 17, 24, 48])
def test_a_loop_returns_to_the_image_at_any_length(preset, frames):
    values = affinities(preset, frames)
    assert len(values) == frames and values[0] == values[-1] == 1
    lowest = values.argmin().item()
    assert (values[: lowest + 1].diff() <= 0).all()  # away from the image, and back
    assert (values[frames - lowest :].diff() >= 0).all()


@pytest.mark.parametrize("preset", LOOPS)
def test_loops_of_16_frames_are_the_published_ones(preset):
    assert affinities(preset, 16).tolist() == pytest.approx(LOOPS[preset])


def test_a_loop_of_other_lengths():
    """Written out: shorter loops skip the middle of the published list, longer ones hold it."""
    assert affinities("loop, medium motion", 8).tolist() == pytest.approx([1, 0.8, 0.8, 0.8, 0.79, 0.8, 0.8, 1])
    large = [1, 0.8, 0.7, 0.7, 0.7, 0.7, 0.6, 0.5, 0.5, 0.5, 0.5, 0.6, 0.7, 0.7, 0.7, 0.7, 0.8, 1]
    assert affinities("loop, large motion", 18).tolist() == pytest.approx(large)


def test_every_preset_is_listed_once():
    assert len(PRESETS) == len(set(PRESETS)) == 9
    assert all(len(affinities(preset, 5)) == 5 for preset in PRESETS)


def test_own_affinities():
    assert check_affinities(torch.tensor([0.5]), 3).tolist() == [0.5, 0.5, 0.5]
    assert check_affinities(torch.tensor([0.0, 0.5, 1.0]), 3).tolist() == [0, 0.5, 1]
    assert check_affinities(torch.ones(1, 6, 4), 3).shape == (3, 6, 4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5, 0.5], "2 affinities for 3 frames: give one for all frames, or one for each frame"),
        ([], "0 affinities for 3 frames"),
        ([0.5, 1.5, 0.5], "An affinity is 1.5: use values from 0"),
        ([0.5, -0.1, 0.5], "An affinity is -0.1"),
        ([0.5, float("nan"), 0.5], "An affinity is nan"),
    ],
)
def test_refused_affinities(values, message):
    with pytest.raises(ValueError, match=message):
        check_affinities(torch.tensor(values), 3)


def test_a_mask_sets_the_affinity_per_place():
    latent = torch.randn(1, 4, 2, 2)
    mask = torch.zeros(3, 4, 4)
    mask[1, :2, 2:] = 1
    channels = concat_affinity(latent, mask)
    assert channels.shape == (3, 5, 2, 2) and torch.equal(channels[:, 1:], latent.expand(3, -1, -1, -1))
    assert channels[:, 0].flatten(1).tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
