import pytest
import torch
from emu_video.diffusion.known_frames import concat_known, first_frame


def test_only_the_first_frame_is_known():
    latent = torch.randn(1, 4, 3, 5)
    known, mask = first_frame(latent, 8)
    assert known.shape == (8, 4, 3, 5) and mask.shape == (8, 1, 3, 5)
    assert torch.equal(known[0], latent[0]) and not known[1:].any()
    assert (mask[0] == 1).all() and not mask[1:].any()


def test_channels_are_latent_then_mask():
    known, mask = first_frame(torch.randn(1, 4, 3, 5), 8)
    together = concat_known(known, mask)
    assert together.shape == (8, 5, 3, 5)
    assert torch.equal(together[:, :4], known) and torch.equal(together[:, 4:], mask)


def test_refusals():
    with pytest.raises(ValueError, match="latent of one frame"):
        first_frame(torch.randn(2, 4, 3, 5), 8)
    with pytest.raises(ValueError, match="at least one frame"):
        first_frame(torch.randn(1, 4, 3, 5), 0)
