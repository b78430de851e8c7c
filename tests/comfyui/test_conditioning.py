"""First Frame Conditioning: what it gives, and a sentence for each way to connect it wrongly."""

import pytest
import torch
from emu_video.host.videos import Purpose, purposes
from emu_video.nodes.conditioning import FirstFrameConditioning
from emu_video.tests.comfyui import tiny

FRAMES = 4


def picture(width=64, height=64, count=1, channels=3):
    return torch.rand(count, height, width, channels, generator=torch.Generator().manual_seed(4))


def condition(model, vae, image, frames=FRAMES, positive=None, negative=None):
    return FirstFrameConditioning.execute(
        model, vae, image, positive or tiny.text(1), negative or tiny.text(2), frames
    ).args


def test_three_conditionings_and_an_empty_latent(video_model, vae):
    image = picture()
    positive, image_only, negative, latent = condition(video_model, vae, image)
    assert torch.equal(positive[0][0], tiny.text(1)[0][0])
    assert torch.equal(image_only[0][0], tiny.text(2)[0][0]) and torch.equal(negative[0][0], tiny.text(2)[0][0])
    known = positive[0][1]["noise_concat"]
    assert known.shape == (FRAMES, 5, 8, 8)
    expected = video_model.model.latent_format.process_in(vae.encode(image))[0]
    torch.testing.assert_close(known[0, :4], expected)
    assert (known[0, 4] == 1).all() and not known[1:].any()
    assert torch.equal(image_only[0][1]["noise_concat"], known)
    assert negative[0][1]["noise_concat"].shape == known.shape and not negative[0][1]["noise_concat"].any()
    assert latent["samples"].shape == (FRAMES, 4, 8, 8) and not latent["samples"].any()


def test_conditionings_say_what_they_were_made_for(video_model, vae):
    *conds, _ = condition(video_model, vae, picture())
    for part, cond in zip(("positive", "image_only", "negative"), conds, strict=True):
        (purpose,) = purposes([options for _, options in cond])
        assert purpose == Purpose("video", part, FRAMES, "known_frames")
    assert purposes([options for _, options in tiny.text(1)]) == []


def test_known_frames_reach_the_network(video_model, vae):
    image, seen = picture(), []
    unet = video_model.model.diffusion_model
    forward = unet.forward

    def watched(x, *args, **kwargs):
        seen.append(x)
        return forward(x, *args, **kwargs)

    unet.forward = watched
    *conds, latent = condition(video_model, vae, image)
    tiny.emu_sample(video_model, conds, latent, 1, 7.5, 2.0)
    inputs = torch.cat(seen).unflatten(0, (3, FRAMES))  # three conditionings in any order
    known = conds[0][0][1]["noise_concat"]
    with_image = [torch.equal(each[:, 4:], known) for each in inputs]
    without = [not each[:, 4:].any() for each in inputs]
    assert sorted(with_image) == [False, True, True] and sorted(without) == [False, False, True]


def test_the_first_frame_matters(video_model, vae):
    videos = []
    for image in (picture(), 1 - picture()):
        *conds, latent = condition(video_model, vae, image)
        videos.append(tiny.emu_sample(video_model, conds, latent, 2))
    assert (videos[0] - videos[1]).abs().max() > 1e-3


def test_every_part_of_a_combined_prompt_gets_the_frame(video_model, vae):
    positive, *_ = condition(video_model, vae, picture(), positive=tiny.text(1) + tiny.text(3))
    assert len(positive) == 2 and all("noise_concat" in options for _, options in positive)


def test_transparency_is_dropped_and_wide_images_work(video_model, vae):
    image = picture(width=96, height=32, channels=4)
    positive, _, _, latent = condition(video_model, vae, image)
    assert latent["samples"].shape == (FRAMES, 4, 4, 12)
    opaque, *_ = condition(video_model, vae, image[..., :3])
    assert torch.equal(positive[0][1]["noise_concat"], opaque[0][1]["noise_concat"])


def test_a_grey_image_is_repeated_in_three_channels(video_model, vae):
    grey = picture(channels=1)
    positive, *_ = condition(video_model, vae, grey)
    colour, *_ = condition(video_model, vae, grey.repeat(1, 1, 1, 3))
    torch.testing.assert_close(positive[0][1]["noise_concat"], colour[0][1]["noise_concat"])
    with pytest.raises(ValueError, match="image has 2 channels: connect one with 1 .grey., 3 .RGB. or 4 .RGBA."):
        condition(video_model, vae, picture(channels=2))


def test_a_seed_keeps_its_video(video_model, vae):
    """The LATENT has no batch_index, by which ComfyUI would draw other noise."""
    *_, latent = condition(video_model, vae, picture())
    assert "batch_index" not in latent


@pytest.mark.parametrize(
    "frames, image, message",
    [
        (0, picture(), "at least 2 frames, got 0"),
        (1, picture(), "at least 2 frames, got 1: set frames .* or make a single image with KSampler"),
        (FRAMES, picture(count=3), "one image, but 3 are connected: pick one with Get Image from Batch"),
        (FRAMES, picture(count=0), "The input image of First Frame Conditioning is empty"),
        (FRAMES, picture(65, 63), "65x63, but width and height must be multiples of 8: .* to 64x64"),
        (FRAMES, picture(3, 64), "3x64, but .* to 8x64"),
    ],
)
def test_wrong_images_and_frames(video_model, vae, frames, image, message):
    with pytest.raises(ValueError, match=message):
        condition(video_model, vae, image, frames)


def test_no_vae(video_model):
    with pytest.raises(ValueError, match="There is no VAE.*Load VAE"):
        condition(video_model, None, picture())


def test_vae_of_another_model(video_model):
    class Other:
        def spacial_compression_encode(self):
            return 8

        def encode(self, pixels):
            return torch.zeros(1, 16, 8, 8)

    with pytest.raises(ValueError, match="latents have 16 channels, but the model takes 4: use the VAE of the same"):
        condition(video_model, Other(), picture())


def test_video_vae(video_model):
    class Video:
        def spacial_compression_encode(self):
            return 8

        def encode(self, pixels):
            return torch.zeros(1, 16, 1, 8, 8)

    with pytest.raises(ValueError, match="VAE encodes whole videos: use the image VAE"):
        condition(video_model, Video(), picture())


def test_model_without_temporal_layers(model, vae):
    with pytest.raises(ValueError, match="no temporal layers: connect the model output of Load Temporal Layers"):
        condition(model, vae, picture())


def test_temporal_layers_without_image_conditioning(model, vae):
    plain = tiny.with_temporal_layers(model, conditioning_channels=0)
    with pytest.raises(ValueError, match="read no known frames: load layers that do"):
        condition(plain, vae, picture())


def test_inpainting_checkpoints_are_refused():
    with pytest.raises(ValueError, match="inpaint"):
        tiny.with_temporal_layers(tiny.checkpoint(in_channels=9))
