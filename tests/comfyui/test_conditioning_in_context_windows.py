"""32 frames from layers made for 8, by ComfyUI's context windows: every window is given the first frame."""

import pytest
import torch
from emu_video.tests.comfyui import tiny

FRAMES, WINDOW, OVERLAP = 32, 8, 2


def sample(model, known):
    """(frames, what the UNet was given in each call)"""
    seen, unet = [], model.model.diffusion_model
    forward = unet.forward

    def watched(x, *args, **kwargs):
        seen.append(x)
        return forward(x, *args, **kwargs)

    unet.forward = watched
    conds = [tiny.text(1, known_frames=known), tiny.text(2, known_frames=known)]
    conds.append(tiny.text(2, known_frames=torch.zeros_like(known)))
    latent = {"samples": torch.zeros(FRAMES, *tiny.LATENT)}
    return tiny.emu_sample(model, conds, latent), seen


@pytest.mark.parametrize("retain, knowing", [("0", 5), ("", 1)])
def test_which_windows_know_the_first_frame(model, retain, knowing):
    known = tiny.first_frame_known(FRAMES)
    video, seen = sample(tiny.in_windows(tiny.with_temporal_layers(model), WINDOW, OVERLAP, retain), known)
    assert video.shape == (FRAMES, *tiny.LATENT) and video.isfinite().all()
    lengths = [len(x) for x in seen]
    assert lengths[0] == WINDOW and set(lengths[1:]) == {WINDOW + 1}  # the causal fix adds a frame to later windows
    assert len(seen) == 5  # 8 frames, then 6 new ones each
    with_first = [x for x in seen if torch.equal(x[0, 4:], known[0])]
    assert len(with_first) == knowing
    assert not any(x[1:, 4:].any() for x in seen)
