"""Windows of interpolation: their length, the paper's seam, noise on the given frames, and what is refused."""

import pytest
import torch
from emu_video.nodes.conditioning import JoinVideo
from emu_video.tests.comfyui import tiny
from emu_video.tests.comfyui.test_layout_conditioning import interpolation, pictures


def test_windows_are_as_long_as_the_layers_were_trained(interpolation_model, vae):
    """37 frames: 8 given ones with factor 4 and margin 4, 15 with factor 2, 4 with factor 8, but never below 2."""
    for factor, frames in ((4, 37), (2, 37), (8, 33), (64, 73)):
        *_, latents, layout = interpolation(interpolation_model, vae, pictures(16), factor=factor)
        assert {len(latent["samples"]) for latent in latents} == {frames}
        assert layout.frames == 15 * factor + 9


def test_the_papers_seam_puts_the_later_of_two_frames_back(interpolation_model, vae):
    given = pictures(16, 256, 256)
    *_, latents, layout = interpolation(
        interpolation_model, vae, {"samples": torch.zeros(16, 4, 8, 8)}, seam="as in the paper"
    )
    sampled = [torch.zeros(len(latent["samples"]), 256, 256, 3) for latent in latents]
    (video,) = JoinVideo.execute(sampled, [layout], [given]).args[0]
    assert layout.positions[7] == layout.positions[8] == 32
    assert torch.equal(video[32], given[8])


def test_noise_for_layers_that_do_not_know_it_is_a_notice(model, vae, caplog):
    for told, level, texts in ((True, 100, 0), (False, 0, 0), (False, 100, 1)):
        caplog.clear()
        layers = tiny.with_temporal_layers(model, role="interpolation", noise_told=told)
        interpolation(layers, vae, pictures(8), noise_level=level)
        assert caplog.text.count("set noise_level to 0") == texts


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda m, v: interpolation(m, v, pictures(1)),
            "at least 2 frames, got 1: put single images",
        ),
        (lambda m, v: interpolation(m, v, {"samples": torch.zeros(1, 4, 8, 8)}), "at least 2 frames, got 1"),
        (lambda m, v: interpolation(m, v, pictures(8), factor=1), "factor of 1 adds no frames"),
        (
            lambda m, v: interpolation(m, v, pictures(9), seam="as in the paper"),
            "multiple of 8 frames, got 9: use the continuous seam",
        ),
    ],
)
def test_wrong_frames_to_interpolate(interpolation_model, vae, call, message):
    with pytest.raises(ValueError, match=message):
        call(interpolation_model, vae)
