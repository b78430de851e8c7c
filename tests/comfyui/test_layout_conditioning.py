"""Extension, first and last frame, interpolation and Join Video: what they give, and a sentence for each mistake."""

import asyncio

import comfy.model_management
import execution  # pyright: ignore[reportMissingImports]
import pytest
import torch
from comfy.sample import prepare_noise
from emu_video.diffusion.schedule import Schedule
from emu_video.host.conditioning import KNOWN_NOISE
from emu_video.nodes.conditioning import (
    ExtendVideoConditioning,
    FirstAndLastFrameConditioning,
    FirstFrameConditioning,
    InterpolationConditioning,
    JoinVideo,
    KnownFramesConditioning,
)
from emu_video.nodes.sampling import EmuVideoSampler
from emu_video.tests.comfyui import tiny

from nodes import KSampler, VAEDecode  # pyright: ignore[reportAttributeAccessIssue]  (ComfyUI's, not the pack's)


def pictures(count, width=64, height=64, channels=3, seed=4):
    return torch.rand(count, height, width, channels, generator=torch.Generator().manual_seed(seed))


TEXT = tiny.text(1), tiny.text(2)


def interpolation(model, vae, frames, factor=4, margin=4, noise_level=0, seed=0, seam="continuous"):
    return InterpolationConditioning.execute(
        model, vae, frames, *TEXT, factor, margin, noise_level, seed, seam
    ).args  # fmt: skip


def extension(model, vae, video, frames=8, known=2):
    return ExtendVideoConditioning.execute(model, vae, video, *TEXT, frames, known).args


def first_last(model, vae, first, last, frames=8):
    return FirstAndLastFrameConditioning.execute(model, vae, first, last, *TEXT, frames).args


def key_frames(model, vae, images, positions, frames=8):
    return KnownFramesConditioning.execute(model, vae, images, *TEXT, frames, positions).args


def known(conditioning):
    return conditioning[0][1]["noise_concat"]


def network_latents(model, vae, images):
    return model.model.latent_format.process_in(vae.encode(images))


def positions(conditioning) -> list[int]:
    """Frames that the mask says are known."""
    mask = known(conditioning)[:, 4]
    assert ((mask == 0) | (mask == 1)).all() and (mask == mask[:, :1, :1]).all()
    return mask[:, 0, 0].nonzero().flatten().tolist()


def check_three(positive, image_only, negative):
    assert torch.equal(positive[0][0], TEXT[0][0][0])
    assert torch.equal(image_only[0][0], TEXT[1][0][0]) and torch.equal(negative[0][0], TEXT[1][0][0])
    assert torch.equal(known(image_only), known(positive))
    assert known(negative).shape == known(positive).shape and not known(negative).any()


# What they give


def test_8_frames_to_37(interpolation_model, vae):
    images = pictures(8)
    positive, image_only, negative, latent, layout = interpolation(interpolation_model, vae, images)
    assert [len(each) for each in (positive, image_only, negative, latent)] == [1, 1, 1, 1]
    check_three(positive[0], image_only[0], negative[0])
    assert known(positive[0]).shape == (37, 5, 8, 8)
    assert positions(positive[0]) == [4, 8, 12, 16, 20, 24, 28, 32]
    torch.testing.assert_close(known(positive[0])[4:33:4, :4], network_latents(interpolation_model, vae, images))
    between = [i for i in range(37) if i % 4 or i in (0, 36)]
    assert not known(positive[0])[between].any()
    assert latent[0]["samples"].shape == (37, 4, 8, 8) and not latent[0]["samples"].any()
    assert layout.frames == 37


def test_16_frames_are_two_windows(interpolation_model, vae):
    images = pictures(16)
    positive, *_, latent, layout = interpolation(interpolation_model, vae, images)
    assert [positions(each) for each in positive] == [[4, 8, 12, 16, 20, 24, 28, 32]] * 2
    latents = network_latents(interpolation_model, vae, images)
    for each, given in zip(positive, latents.split(8), strict=True):
        torch.testing.assert_close(known(each)[4:33:4, :4], given)
    assert layout.frames == 69
    assert interpolation(interpolation_model, vae, images, seam="as in the paper")[-1].frames == 65


def test_first_and_last(video_model, vae):
    first, last = pictures(1), pictures(1, seed=5)
    positive, image_only, negative, latent, layout = first_last(video_model, vae, first, last, 6)
    check_three(positive, image_only, negative)
    assert positions(positive) == [0, 5] and latent["samples"].shape == (6, 4, 8, 8)
    given = network_latents(video_model, vae, torch.cat((first, last)))
    torch.testing.assert_close(known(positive)[[0, 5], :4], given)


def test_known_frames_anywhere(video_model, vae):
    images = pictures(3)
    positive, image_only, negative, latent, layout = key_frames(video_model, vae, images, "0, 3,-1")
    check_three(positive, image_only, negative)
    assert positions(positive) == [0, 3, 7] and latent["samples"].shape == (8, 4, 8, 8)
    given = network_latents(video_model, vae, images)
    torch.testing.assert_close(known(positive)[[0, 3, 7], :4], given)
    (joined,) = JoinVideo.execute([pictures(8, seed=9)], [layout], [images]).args[0]
    assert torch.equal(joined[[0, 3, 7]], images)
    ends = key_frames(video_model, vae, images[:2], "0, -1")
    assert torch.equal(known(ends[0]), known(first_last(video_model, vae, images[:1], images[1:2])[0]))
    backwards = key_frames(video_model, vae, images[[1, 0]], "-1, 0")
    torch.testing.assert_close(known(backwards[0]), known(ends[0]))


def test_extension_knows_the_last_frames(video_model, vae):
    video = pictures(5)
    positive, image_only, negative, latent, layout = extension(video_model, vae, video, frames=8, known=3)
    check_three(positive, image_only, negative)
    assert positions(positive) == [0, 1, 2] and latent["samples"].shape == (8, 4, 8, 8)
    torch.testing.assert_close(known(positive)[:3, :4], network_latents(video_model, vae, video[-3:]))
    assert layout.frames == 10


def test_one_known_frame_is_first_frame_conditioning(video_model, vae):
    video = pictures(3)
    extended = extension(video_model, vae, video, frames=4, known=1)
    first = FirstFrameConditioning.execute(video_model, vae, video[-1:], *TEXT, 4).args
    torch.testing.assert_close(known(extended[0]), known(first[0]))


def test_noise_on_the_given_frames(interpolation_model, vae):
    """x_t of each, the same in both guided conditionings; mask, unknown frames and negative stay as they are."""
    images = pictures(8)
    clean = known(interpolation(interpolation_model, vae, images)[0][0])
    positive, image_only, negative, *_ = interpolation(interpolation_model, vae, images, noise_level=100, seed=1)
    noisy = known(positive[0])
    check_three(positive[0], image_only[0], negative[0])
    at = slice(4, 33, 4)
    schedule = Schedule.from_betas(zero_terminal_snr=True)
    noise = (noisy[at, :4] - schedule.alpha(100).item() * clean[at, :4]) / schedule.sigma(100).item()
    expected = torch.randn(noise.shape, generator=torch.Generator().manual_seed(1 ^ KNOWN_NOISE))
    torch.testing.assert_close(noise, expected, rtol=0, atol=1e-4)
    initial = prepare_noise(noisy[:, :4], 1)  # of a sampler with the same seed
    assert (noise - initial[: len(noise)]).abs().mean() > 1 and (noise - initial[at]).abs().mean() > 1
    assert torch.equal(noisy[:, 4], clean[:, 4]) and not noisy[:4].any() and not noisy[33:].any()
    other = interpolation(interpolation_model, vae, images, noise_level=100, seed=2)[0][0]
    assert not torch.equal(known(other), noisy)


def test_layers_that_are_told_the_noise(model, vae):
    told = tiny.with_temporal_layers(model, role="interpolation", noise_told=True)
    untold = tiny.with_temporal_layers(model, role="interpolation")
    for level in (0, 100):
        one, other = (known(interpolation(m, vae, pictures(8), noise_level=level)[0][0]) for m in (told, untold))
        share = Schedule.from_betas(zero_terminal_snr=True).alphas_cumprod[level].item() if level else 1.0
        assert torch.equal(one[:, :4], other[:, :4])
        torch.testing.assert_close(one[:, 4], share * other[:, 4])


def test_latents_in_place_of_images(interpolation_model, vae):
    """As a sampler gives them, without a way through the VAE and back."""
    latents = {"samples": vae.encode(pictures(16, 48, 32)), "batch_index": [0] * 16}
    for one, other in zip(
        interpolation(interpolation_model, vae, latents, noise_level=50, seed=3)[:3],
        interpolation(interpolation_model, vae, pictures(16, 48, 32), noise_level=50, seed=3)[:3],
        strict=True,
    ):
        assert [torch.equal(known(a), known(b)) for a, b in zip(one, other, strict=True)] == [True, True]


def test_a_frame_known_to_two_windows_is_the_same_in_both(interpolation_model, vae):
    positive, *_, layout = interpolation(interpolation_model, vae, pictures(11), margin=0, noise_level=100)
    assert [list(window.given) for window in layout.windows] == [[*range(10)], [*range(1, 11)]]
    assert torch.equal(known(positive[0])[4:], known(positive[1])[:-4])


def test_overlapping_windows_start_from_the_same_noise(interpolation_model, vae):
    *_, latents, layout = interpolation(interpolation_model, vae, pictures(16))
    first, second = (prepare_noise(each["samples"], 0, each["batch_index"]) for each in latents)
    assert torch.equal(first[32:], second[:5]) and not torch.equal(first[:5], second[:5])


# Through the sampler and back


def sampled(model, vae, positive, image_only, negative, latent, steps=1):
    video = tiny.emu_sample(model, (positive, image_only, negative), latent, steps)
    return VAEDecode().decode(vae, {"samples": video})[0]


def test_windows_through_comfyui(interpolation_model, vae):
    """ComfyUI runs sampler and decoder once for each window, and Join Video once for all of them."""
    images = pictures(3, 32, 32)
    frames = pictures(20, 32, 32)

    def node(cls, **inputs):
        obj = cls if hasattr(cls, "GET_SCHEMA") else cls()
        outputs, *_ = asyncio.run(execution.get_output_data("prompt", "1", obj, inputs, v3_data={}))
        return outputs

    def run(given):
        *conds, latent, layout = node(
            InterpolationConditioning, model=[interpolation_model], vae=[vae], frames=[given], positive=[TEXT[0]],
            negative=[TEXT[1]], factor=[2], margin=[2], noise_level=[0], seed=[0], seam=["continuous"],
        )  # fmt: skip
        (latents,) = node(
            EmuVideoSampler, model=[interpolation_model], positive=conds[0], image_only=conds[1], negative=conds[2],
            latent=latent, seed=[0], steps=[1], text_guidance=[1.0], image_guidance=[1.0], guidance_rescale=[0.0],
            eta=[0.0],
        )  # fmt: skip
        (videos,) = node(VAEDecode, samples=latents, vae=[vae])
        return videos, node(JoinVideo, images=videos, layout=layout, frames=[given])[0]

    videos, (joined,) = run(frames)
    assert [len(video) for video in videos] == [37, 37]
    assert joined.shape == (43, 32, 32, 3) and torch.equal(joined[2:41:2], frames)
    videos, (joined,) = run(images)
    assert [len(video) for video in videos] == [9] and joined.shape == (9, 32, 32, 3)


def test_known_frames_matter_where_they_lie(video_model, vae):
    """With a stock sampler too; another last frame makes another video."""
    videos = []
    for seed in (5, 6):
        positive, _, negative, latent, _ = first_last(video_model, vae, pictures(1), pictures(1, seed=seed), 4)
        (video,) = KSampler().sample(video_model, 0, 2, 2.0, "euler", "simple", positive, negative, latent, 1.0)
        videos.append(video["samples"])
    assert videos[0].shape == (4, 4, 8, 8) and (videos[0] - videos[1]).abs().max() > 1e-3


def test_extending_twice_repeats_nothing_and_keeps_the_video(video_model, vae):
    start = pictures(4, 32, 32)
    video = start
    for frames, known_frames in ((4, 2), (5, 1)):
        *conds, layout = extension(video_model, vae, video, frames, known_frames)
        clip = sampled(video_model, vae, *conds)
        (longer,) = JoinVideo.execute([clip], [layout], [video]).args[0]
        assert torch.equal(longer[: len(video)], video) and torch.equal(longer[len(video) :], clip[known_frames:])
        video = longer
    assert len(video) == 4 + 2 + 4


# Mistakes


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda m, v: interpolation(m, v, pictures(8)),
            "have the role video, but this node needs the role interpolation",
        ),
        (lambda m, v: extension(m, v, pictures(2, 60, 64), 8, 1), "60x64, but .* multiples of 8"),
        (lambda m, v: extension(m, None, pictures(2), 8, 1), "There is no VAE"),
        (
            lambda m, v: extension(m, v, pictures(2), 8, 3),
            "has 2 frames, but known is 3: set known to a number from 1 to 2",
        ),
        (lambda m, v: extension(m, v, pictures(8), 4, 4), "adds nothing: set frames above 4"),
        (lambda m, v: first_last(m, v, pictures(1), pictures(1, 72)), "first .* 64x64, but the last is 72x64: scale"),
        (
            lambda m, v: first_last(m, v, pictures(2), pictures(1)),
            "The first frame must be one image, but 2 are connected",
        ),
        (
            lambda m, v: first_last(m, v, pictures(1), pictures(0)),
            "The input last of First and Last Frame Conditioning is empty",
        ),
        (lambda m, v: first_last(m, v, pictures(1), pictures(1), 2), "2 of 2 frames are given"),
        (lambda m, v: key_frames(m, v, pictures(2), "0, 8"), "8 frames has no frame 8: use positions from 0 to 7"),
        (lambda m, v: key_frames(m, v, pictures(2), "7, -1"), "7, -1 contain a frame twice"),
        (lambda m, v: key_frames(m, v, pictures(2), "0"), "1 position for 2 images: write one position for each image"),
        (
            lambda m, v: key_frames(m, v, pictures(1), "first"),
            '"first" is not a list of frame numbers. Write whole numbers',
        ),
        (lambda m, v: key_frames(m, v, pictures(2), "0, 1", 2), "2 of 2 frames are given"),
    ],
)
def test_wrong_frames(video_model, vae, call, message):
    with pytest.raises(ValueError, match=message):
        call(video_model, vae)


@pytest.mark.parametrize(("call", "role"), [(interpolation, "interpolation"), (extension, "video")])
def test_models_without_a_place_for_known_frames(model, vae, call, role):
    with pytest.raises(ValueError, match="no temporal layers: connect the model output of Load Temporal Layers"):
        call(model, vae, pictures(8))
    with pytest.raises(ValueError, match="read no known frames"):
        call(tiny.with_temporal_layers(model, conditioning_channels=0, role=role), vae, pictures(8))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 4, 8, 8, 8), "a whole video of a video model, .* decode the"),
        ((2, 4, 8, 8, 8), "a whole video of a video model, .* decode the"),
        (
            (2, 8, 8, 8),
            "latents have 8 channels, but the model takes 4: use the VAE of the same checkpoint, and latents",
        ),
    ],
)
def test_latents_of_another_kind(interpolation_model, vae, shape, message):
    with pytest.raises(ValueError, match=message):
        interpolation(interpolation_model, vae, {"samples": torch.zeros(shape)})


def test_memory_is_estimated_before_anything_is_done(interpolation_model, vae, monkeypatch):
    """37 frames, twice, of 64x64 pixels in float32: 3.5 MiB."""
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: 3 * 1024**2)
    with pytest.raises(ValueError, match="^37 frames of 64x64 need about 3 MiB .* lower the factor"):
        interpolation(interpolation_model, None, pictures(8))
    with pytest.raises(ValueError, match="^37 frames of 64x64 need about 3 MiB"):
        interpolation(interpolation_model, vae, {"samples": torch.zeros(8, 4, 8, 8)})
    with pytest.raises(ValueError, match="^400005 frames of 64x64 need about 39.5 GiB"):
        interpolation(interpolation_model, None, torch.zeros(1).expand(100_000, 64, 64, 3))
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: 4 * 1024**2)
    with pytest.raises(ValueError, match="There is no VAE"):
        interpolation(interpolation_model, None, pictures(8))


def test_first_frame_conditioning_estimates_too(video_model, vae, monkeypatch):
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: 1024**2)
    with pytest.raises(ValueError, match="^1000 frames of 64x64 need about 47 MiB .* fewer or smaller frames"):
        FirstFrameConditioning.execute(video_model, vae, pictures(1), *TEXT, 1000)


def test_joining_several_videos(video_model, vae):
    """A list of prompts makes a list of clips and of layouts."""
    first, second = pictures(8), pictures(8, seed=5)
    layouts = [extension(video_model, vae, video, known=1)[-1] for video in (first, second)]
    clips = [pictures(8, seed=6), pictures(8, seed=7)]
    joined = JoinVideo.execute(clips, layouts, [first, second]).args[0]
    assert [len(video) for video in joined] == [15, 15]
    for video, given, clip in zip(joined, (first, second), clips, strict=True):
        assert torch.equal(video[:8], given) and torch.equal(video[8:], clip[1:])
    joined = JoinVideo.execute(clips, layouts, [first]).args[0]  # two ends of one video
    assert all(torch.equal(video[:8], first) for video in joined)
    with pytest.raises(ValueError, match="2 layouts, but given frames for 3 videos. Connect to images the decoded"):
        JoinVideo.execute(clips, layouts, [first, second, first])
    with pytest.raises(ValueError, match="Expected 1 x 8 frames, got 2 x 8 frames"):
        JoinVideo.execute([*clips, clips[0]], layouts, [first, second])


def test_joining_what_does_not_belong_together(interpolation_model, video_model, vae):
    *_, layout = interpolation(interpolation_model, vae, pictures(8))
    with pytest.raises(ValueError, match="Expected 1 x 37 frames, got 1 x 8 frames"):
        JoinVideo.execute([pictures(8)], [layout])
    with pytest.raises(ValueError, match="8 given frames, got 7. Connect"):
        JoinVideo.execute([pictures(37)], [layout], [pictures(7)])
    with pytest.raises(ValueError, match="same size, but there are 32x32 and 64x64"):
        JoinVideo.execute([pictures(37)], [layout], [pictures(8, 32, 32)])
    *_, layout = extension(video_model, vae, pictures(8))
    with pytest.raises(ValueError, match="extended is missing. Connect .* and to frames"):
        JoinVideo.execute([pictures(8)], [layout])


def test_transparent_frames_are_put_back_opaque(interpolation_model, vae):
    given = pictures(2, channels=4)
    *_, layout = interpolation(interpolation_model, vae, given)
    (joined,) = JoinVideo.execute([pictures(13, channels=4)], [layout], [given]).args[0]
    assert joined.shape == (13, 64, 64, 3) and torch.equal(joined[[4, 8]], given[..., :3])


def test_interpolation_layers_make_no_video(interpolation_model, vae):
    with pytest.raises(ValueError, match="have the role interpolation, but this node needs the role video"):
        FirstFrameConditioning.execute(interpolation_model, vae, pictures(1), *TEXT, 8)
