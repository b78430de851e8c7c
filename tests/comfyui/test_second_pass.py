"""Super-Resolution Conditioning and Resize Known Frames: what they give, sampled with stock and own nodes."""

import asyncio
import gc
import importlib
import json
import weakref
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import comfy.model_management
import comfy.utils
import execution  # pyright: ignore[reportMissingImports]
import pytest
import torch
from comfy.sample import prepare_noise
from comfy_execution.graph_utils import ExecutionBlocker
from emu_video.diffusion.schedule import Schedule
from emu_video.host.conditioning import KNOWN_NOISE
from emu_video.host.given_frames import GivenFrames, rgb
from emu_video.host.videos import purposes
from emu_video.launcher.environment import ROOT
from emu_video.nodes.conditioning import (
    ExtendVideoConditioning,
    FirstFrameConditioning,
    InterpolationConditioning,
    JoinVideo,
    KnownFramesConditioning,
)
from emu_video.nodes.sampling import EmuVideoSampler
from emu_video.nodes.second_pass import MatchSmallVideo, ResizeKnownFrames, SuperResolutionConditioning
from emu_video.tests.comfyui import tiny

from nodes import KSampler, LatentUpscale, VAEDecode  # pyright: ignore[reportAttributeAccessIssue]

nodes: Any = importlib.import_module("nodes")  # ComfyUI's, not the pack's

TEXT = tiny.text(1), tiny.text(2)


@pytest.fixture
def sharp_model(model):
    return tiny.with_temporal_layers(model, role="super_resolution", noise_told=True)


def pictures(count, width=32, height=32, seed=4):
    """Smooth pictures, whose upscaling loses nothing much."""
    small = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(small, (height, width), mode="bicubic").clamp(0, 1).movedim(1, -1)


def super_resolution(model, vae, frames, factor=2, noise_level=0, seed=0, **options):
    return SuperResolutionConditioning.execute(model, vae, frames, *TEXT, factor, noise_level, seed, **options).args


def known(conditioning):
    return conditioning[0][1]["noise_concat"]


def upsampled(images, factor=2):
    size = images.shape[1] * factor, images.shape[2] * factor
    return torch.nn.functional.interpolate(images.movedim(-1, 1), size, mode="bicubic").clamp(0, 1).movedim(1, -1)


def network_latents(model, vae, images):
    return model.model.latent_format.process_in(vae.encode(images))


# Super-resolution


def test_all_frames_are_known_at_twice_the_size(sharp_model, vae):
    images = pictures(4)
    positive, image_only, negative, latent, layout = super_resolution(sharp_model, vae, images)
    assert [len(each) for each in (positive, image_only, negative, latent)] == [1] * 4
    assert known(positive[0]).shape == (4, 5, 8, 8) and latent[0]["samples"].shape == (4, 4, 8, 8)
    torch.testing.assert_close(known(positive[0])[:, :4], network_latents(sharp_model, vae, upsampled(images)))
    assert (known(positive[0])[:, 4] == 1).all()
    assert torch.equal(known(image_only[0]), known(positive[0])) and not known(negative[0]).any()
    (purpose,) = purposes([options for _, options in positive[0]])
    assert (purpose.role, purpose.part, purpose.frames) == ("super_resolution", "positive", 4)
    assert latent[0]["batch_index"] == [0, 1, 2, 3]


def test_noise_of_a_level_that_the_mask_carries(sharp_model, vae):
    images, schedule = pictures(4), Schedule.from_betas(zero_terminal_snr=True)
    clean = known(super_resolution(sharp_model, vae, images)[0][0])
    noisy = known(super_resolution(sharp_model, vae, images, noise_level=200, seed=5)[0][0])
    noise = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(5 ^ KNOWN_NOISE))
    expected = schedule.alpha(200).item() * clean[:, :4] + schedule.sigma(200).item() * noise
    torch.testing.assert_close(noisy[:, :4], expected, rtol=0, atol=1e-5)
    share = schedule.alphas_cumprod[200].item()
    torch.testing.assert_close(noisy[:, 4], torch.full_like(noisy[:, 4], share))


def test_latents_are_decoded_first(sharp_model, vae):
    latents = {"samples": vae.encode(pictures(4))}
    one = super_resolution(sharp_model, vae, latents)
    other = super_resolution(sharp_model, vae, vae.decode(latents["samples"]))
    assert torch.equal(known(one[0][0]), known(other[0][0]))


def test_windows_in_time_share_frames_and_noise(sharp_model, vae):
    """The layers were trained with 4 frames: windows of 4 that share one."""
    positive, *_, latents, layout = super_resolution(sharp_model, vae, pictures(7), noise_level=100)
    assert [each["batch_index"] for each in latents] == [[0, 1, 2, 3], [3, 4, 5, 6]]
    assert torch.equal(known(positive[0])[3], known(positive[1])[0])
    first, second = (prepare_noise(each["samples"], 0, each["batch_index"]) for each in latents)
    assert torch.equal(first[3], second[0]) and not torch.equal(first[0], second[0])
    same = super_resolution(sharp_model, vae, pictures(7), initial_noise="same for all frames")[3]
    noise = [prepare_noise(each["samples"], 0, each["batch_index"]) for each in same]
    assert all(torch.equal(frame, noise[0][0]) for each in noise for frame in each)
    (whole,) = super_resolution(sharp_model, vae, pictures(7), window=7)[3]
    assert len(whole["samples"]) == 7


def test_tiles_are_cut_from_the_whole_picture(sharp_model, vae):
    images = pictures(2, 96, 64)
    whole = known(super_resolution(sharp_model, vae, images, noise_level=50)[0][0])
    positive, *_, latents, layout = super_resolution(sharp_model, vae, images, noise_level=50, tile=128)
    spans = [(y.span, x.span) for _, y, x in layout.windows]
    assert [(y.start, x.start) for y, x in spans] == [(0, 0), (0, 64)]
    for tile, (y, x) in zip(positive, spans, strict=True):
        assert torch.equal(known(tile), whole[..., y.start // 8 : y.stop // 8, x.start // 8 : x.stop // 8])
    first, second = (prepare_noise(each["samples"], 0, each["batch_index"]) for each in latents)
    assert not torch.equal(first, second)


def test_prompts_of_a_schedule_go_to_their_windows(sharp_model, vae):
    text = torch.randn(7, 7, tiny.CONTEXT)
    positive, *_ = SuperResolutionConditioning.execute(
        sharp_model, vae, pictures(7), [[text, {}]], TEXT[1], 2, 0, 0
    ).args
    assert torch.equal(positive[0][0][0], text[:4]) and torch.equal(positive[1][0][0], text[3:])


def test_through_comfyui(sharp_model, vae):
    """ComfyUI samples every window and tile, and Join Video puts them together."""

    def node(cls, **inputs):
        obj = cls if hasattr(cls, "GET_SCHEMA") else cls()
        outputs, *_ = asyncio.run(execution.get_output_data("prompt", "1", obj, inputs, v3_data={}))
        return outputs

    *conds, latent, layout = node(
        SuperResolutionConditioning, model=[sharp_model], vae=[vae], frames=[pictures(6, 48, 32)], positive=[TEXT[0]],
        negative=[TEXT[1]], factor=[2], noise_level=[20], seed=[0], window=[4], tile=[64],
    )  # fmt: skip
    (latents,) = node(
        EmuVideoSampler, model=[sharp_model], positive=conds[0], image_only=conds[1], negative=conds[2],
        latent=latent, seed=[0], steps=[1], text_guidance=[1.0], image_guidance=[1.0], guidance_rescale=[0.0],
        eta=[0.0],
    )  # fmt: skip
    (videos,) = node(VAEDecode, samples=latents, vae=[vae])
    assert len(videos) == 4 and {tuple(video.shape) for video in videos} == {(4, 64, 64, 3)}
    (joined,) = node(JoinVideo, images=videos, layout=layout)[0]
    assert joined.shape == (6, 64, 96, 3) and joined.isfinite().all()
    assert torch.equal(joined[0, :, :32], videos[0][0, :, :32])


def test_the_factor_of_the_layers(model, vae):
    layers = tiny.with_temporal_layers(model, role="super_resolution", factor=4)
    assert known(super_resolution(layers, vae, pictures(4, 16, 16), factor=4)[0][0]).shape == (4, 5, 8, 8)
    with pytest.raises(ValueError, match="make frames 4 times larger, but factor is 2: set it to 4"):
        super_resolution(layers, vae, pictures(4))
    for factor in (0, 1):  # a link can give what the widget refuses
        with pytest.raises(ValueError, match=f"factor of {factor} enlarges nothing: set it to 2 or more"):
            super_resolution(tiny.with_temporal_layers(model, role="super_resolution"), vae, pictures(4), factor=factor)


@pytest.mark.parametrize("window", [2, 3, 4])
def test_the_smallest_windows_overlap_too(sharp_model, vae, window):
    layout = super_resolution(sharp_model, vae, pictures(6), window=window)[-1].time
    assert all(a.span.stop - b.start >= 1 for a, b in zip(layout.windows, layout.windows[1:], strict=False))


def test_super_resolution_mistakes(sharp_model, video_model, vae):
    with pytest.raises(ValueError, match="have the role video, but this node needs the role super_resolution"):
        super_resolution(video_model, vae, pictures(4))
    with pytest.raises(ValueError, match="There is no VAE"):
        super_resolution(sharp_model, None, pictures(4))
    with pytest.raises(ValueError, match="have the role super_resolution, but this node needs the role video"):
        FirstFrameConditioning.execute(sharp_model, vae, pictures(1), *TEXT, 4)
    with pytest.raises(ValueError, match="tile of 32 pixels is too small: use 64 or more, or 0 for the whole"):
        super_resolution(sharp_model, vae, pictures(4), tile=32)
    layout = super_resolution(sharp_model, vae, pictures(4))[-1]
    with pytest.raises(ValueError, match="changes all frames: disconnect frames of Join Video"):
        JoinVideo.execute([pictures(4, 64, 64)], [layout], [pictures(4)])
    with pytest.raises(ValueError, match="Expected 1 window of 4x64x64 .* got 1 window of 4x32x32"):
        JoinVideo.execute([pictures(4)], [layout])


def test_sizes_and_frames_that_do_not_fit(model, sharp_model, vae):
    """Each is refused at the start, in the words of the node's own inputs."""
    with pytest.raises(ValueError, match="is 127x127, which becomes 254x254, .* of 8: scale .* example to 128x128"):
        super_resolution(sharp_model, vae, torch.rand(4, 127, 127, 3))
    with pytest.raises(ValueError, match="is 66x33, which becomes 198x99, .* of 8: scale .* example to 64x32"):
        super_resolution(sharp_model, vae, torch.rand(4, 33, 66, 3), factor=3)
    assert super_resolution(sharp_model, vae, torch.rand(4, 36, 36, 3))[-1].rows.frames == 72
    with pytest.raises(ValueError, match="at least 2 frames, but frames has 1: connect all frames"):
        super_resolution(sharp_model, vae, pictures(1))
    with pytest.raises(ValueError, match="window of 1 frame is not a video: set window to 2 or more, or to 0"):
        super_resolution(sharp_model, vae, pictures(4), window=1)
    of_two_videos = tiny.with_temporal_layers(model, frames=4, role="super_resolution", noise_told=True)
    with pytest.raises(ValueError, match="has 8 frames, but frames of Load Temporal Layers is 4: set it to 0"):
        super_resolution(of_two_videos, vae, pictures(8))
    assert len(super_resolution(of_two_videos, vae, pictures(4))[0]) == 1


def test_latents_of_another_vae(sharp_model, video_model, vae):
    wide = torch.zeros(4, 16, 4, 4)
    message = "latents have 16 channels, but this VAE decodes 4: connect the VAE of the checkpoint that made them"
    with pytest.raises(ValueError, match=message):
        super_resolution(sharp_model, vae, {"samples": wide})
    positive = FirstFrameConditioning.execute(video_model, vae, pictures(1), *TEXT, 4).args[0]
    options = positive[0][1]
    source = options["emu_video_source"]
    of_latents = replace(source, given=GivenFrames(latents=wide[:1]))
    with pytest.raises(ValueError, match=message):
        ResizeKnownFrames.execute(
            video_model, vae, [[positive[0][0], options | {"emu_video_source": of_latents}]],
            {"samples": torch.zeros(4, 4, 8, 8)},
        )  # fmt: skip


# A second pass


def enlarged(latent, size=64):
    return LatentUpscale().upscale({"samples": latent}, "bicubic", size, size, "disabled")[0]


def test_known_frames_at_a_new_size(video_model, vae):
    """As if the conditioning node had been given the scaled image."""
    image = pictures(1)
    small = FirstFrameConditioning.execute(video_model, vae, image, *TEXT, 4).args
    latent = enlarged(torch.randn(4, 4, 4, 4))
    *conds, passed = ResizeKnownFrames.execute(video_model, vae, small[0], latent, small[1], small[2]).args
    large = FirstFrameConditioning.execute(video_model, vae, upsampled(image), *TEXT, 4).args
    for one, other in zip(conds, large[:3], strict=True):
        assert torch.equal(known(one), known(other)) and torch.equal(one[0][0], other[0][0])
        assert one[0][1]["emu_video_purpose"] == other[0][1]["emu_video_purpose"]
    assert passed is latent
    same = ResizeKnownFrames.execute(video_model, vae, small[0], {"samples": torch.zeros(4, 4, 4, 4)}).args
    assert torch.equal(known(same[0]), known(small[0]))
    assert all(isinstance(each, ExecutionBlocker) for each in same[1:3])


def test_areas_and_boxes_at_a_new_size(video_model, vae):
    """Latents of 8 to 12: neighbouring areas still meet, and shares of the picture stay as they are."""
    clip = SimpleNamespace(tokenize=lambda text: text, encode_from_tokens=lambda *_, **__: ("pooled", "pooled"))
    left, right = nodes.ConditioningSetArea(), nodes.ConditioningSetArea()
    texts = left.append(TEXT[0], 24, 64, 0, 0, 1.0)[0] + right.append(TEXT[0], 40, 64, 24, 0, 1.0)[0]
    texts += nodes.ConditioningSetAreaPercentage().append(TEXT[0], 0.5, 1.0, 0.25, 0.0, 1.0)[0]
    texts += nodes.GLIGENTextBoxApply().append(TEXT[0], clip, None, "a box", 32, 16, 8, 48)[0]
    positive, *_ = FirstFrameConditioning.execute(video_model, vae, pictures(1, 64, 64), texts, TEXT[1], 4).args
    large, *_ = ResizeKnownFrames.execute(video_model, vae, positive, {"samples": torch.zeros(4, 4, 12, 12)}).args
    options = [each for _, each in large]
    assert [each.get("area") for each in options] == [
        (12, 4, 0, 0), (12, 8, 0, 4), ("percentage", 1.0, 0.5, 0.0, 0.25), None
    ]  # fmt: skip
    assert options[3]["gligen"] == ("position", None, [("pooled", 3, 6, 9, 2)])
    assert positive[0][1]["area"] == (8, 3, 0, 0)  # the first pass still needs it


def test_the_template_keeps_image_guidance_at_1():
    """KSampler's cfg is the weight between positive and negative, so both must know the first frame."""
    graph = json.loads((ROOT / "workflows" / "api" / "second_pass_fancyvideo.json").read_text("utf-8"))
    ((number, _),) = [(key, node) for key, node in graph.items() if node["class_type"] == "EmuVideoResizeKnownFrames"]
    (second,) = [
        node["inputs"]
        for node in graph.values()
        if node["class_type"] == "KSampler" and node["inputs"]["positive"] == [number, 0]
    ]
    outputs = [output.display_name or output.id for output in ResizeKnownFrames.define_schema().outputs]
    assert second["negative"] == [number, outputs.index("image_only")]
    assert "image_only" in graph[number]["inputs"]


def test_every_layout_is_made_again(video_model, interpolation_model, vae):
    images = pictures(9)

    def known_frames(images):
        return [
            KnownFramesConditioning.execute(video_model, vae, images, *TEXT, 12, "0, 3, -1, 1, 2, 4, 5, 6, 8").args[0]
        ]

    def extension(images):
        return [ExtendVideoConditioning.execute(video_model, vae, images, *TEXT, 8, 3).args[0]]

    def interpolation(images):
        return InterpolationConditioning.execute(
            interpolation_model, vae, images, *TEXT, 5, 0, 100, 7, "continuous"
        ).args[0]  # fmt: skip

    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    for made, count in ((known_frames, 1), (extension, 1), (interpolation, 2)):
        small, large = made(images), made(upsampled(images))
        assert len(small) == len(large) == count
        for one, other in zip(small, large, strict=True):
            resized = known(ResizeKnownFrames.execute(video_model, vae, one, latent).args[0])
            torch.testing.assert_close(resized, known(other), rtol=1e-4, atol=1e-4)


def test_a_second_pass_with_ksampler(video_model, vae):
    *conds, latent = FirstFrameConditioning.execute(video_model, vae, pictures(1), *TEXT, 4).args
    first = tiny.emu_sample(video_model, conds, latent, 2, 2.0)
    positive, _, negative, large = ResizeKnownFrames.execute(
        video_model, vae, conds[0], enlarged(first), None, conds[2]
    ).args
    (video,) = KSampler().sample(video_model, 0, 4, 2.0, "euler", "simple", positive, negative, large, 0.5)
    assert video["samples"].shape == (4, 4, 8, 8) and video["samples"].isfinite().all()
    assert VAEDecode().decode(vae, video)[0].shape == (4, 64, 64, 3)


def test_an_upscaled_video_is_matched_to_the_small_one():
    small, large = torch.rand(3, 16, 24, 4), torch.full((3, 32, 48, 3), 0.5)
    (after,) = MatchSmallVideo.execute(large, small, 1.0).args
    assert after.shape == large.shape and 0 <= after.min() and after.max() <= 1
    again = torch.nn.functional.avg_pool2d(after.movedim(-1, 1), 2).movedim(1, -1)
    assert (again - small[..., :3]).abs().mean() < 0.02
    with pytest.raises(ValueError, match="2 frames of 48x32 cannot be matched to 3 frames of 24x16"):
        MatchSmallVideo.execute(large[:2], small, 1.0)


def test_frames_of_a_file_and_decoded_frames_meet_on_one_device(monkeypatch):
    """With --gpu-only, decoded frames are on the GPU. The meta device stands for it."""
    monkeypatch.setattr(comfy.model_management, "intermediate_device", lambda: torch.device("meta"))
    assert {rgb(torch.rand(3, 16, 24, channels)).device.type for channels in (1, 3, 4)} == {"meta"}


def test_matching_shows_progress_and_can_be_cancelled(monkeypatch):
    small, large, seen = torch.rand(3, 16, 24, 3), torch.rand(3, 32, 48, 3), []

    class Bar:
        def __init__(self, total):
            seen.append(total)

        def update(self, frames):
            seen.append(frames)
            comfy.model_management.interrupt_current_processing(len(seen) == 3)

    monkeypatch.setattr(comfy.utils, "ProgressBar", Bar)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        MatchSmallVideo.execute(large, small, 1.0)
    assert seen == [3, 1, 1]


def test_conditionings_without_known_frames_are_refused(video_model, sharp_model, vae):
    latent = {"samples": torch.zeros(4, 4, 8, 8)}
    positive = super_resolution(sharp_model, vae, pictures(4))[0][0]
    for conditioning in (TEXT[0], positive):
        with pytest.raises(ValueError, match="no known frames that can be scaled: connect one of First Frame Cond"):
            ResizeKnownFrames.execute(video_model, vae, conditioning, latent)


def test_known_frames_of_an_earlier_node_are_not_used_again(video_model, sharp_model, vae):
    first = FirstFrameConditioning.execute(video_model, vae, pictures(1), *TEXT, 4).args[0]
    sharp, *_ = SuperResolutionConditioning.execute(sharp_model, vae, pictures(4), first, TEXT[1], 2, 0, 0).args
    with pytest.raises(ValueError, match="except Super-Resolution Conditioning"):
        ResizeKnownFrames.execute(video_model, vae, sharp[0], {"samples": torch.zeros(4, 4, 8, 8)})


def test_conditionings_hold_no_model(vae):
    """A cached conditioning must not keep a checkpoint in memory."""
    model = tiny.with_temporal_layers(tiny.checkpoint())
    watched = weakref.ref(model.model)
    made = FirstFrameConditioning.execute(model, vae, pictures(1), *TEXT, 4).args
    del model
    gc.collect()
    assert watched() is None and len(made) == 4
