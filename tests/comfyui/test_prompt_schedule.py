"""Prompt Schedule and Value Schedule: equal to conditionings built by hand, sampled whole and in context windows."""

import pytest
import torch
from emu_video.nodes.conditioning import FirstFrameConditioning, InterpolationConditioning
from emu_video.nodes.schedules import PromptSchedule, ValueSchedule
from emu_video.tests.comfyui import tiny
from emu_video.tests.comfyui.narrow_clip import narrow_clip
from emu_video.tests.comfyui.stock import LATENT, V_PREDICTION, Stock

from nodes import CLIPTextEncode, ConditioningAverage, KSampler  # pyright: ignore[reportAttributeAccessIssue]

FRAMES = 8
SHORT = "0: a cat\n4: a dog\n6: a fish"
LONG = " ".join(["long"] * 100)  # two chunks of CLIP


@pytest.fixture(scope="module", params=["sd15", "sd21", "sdxl"])
def clip(request):
    return narrow_clip(request.param, 64)


@pytest.fixture(scope="module")
def fitting_clip():
    """As wide as the text of the small checkpoint."""
    return narrow_clip("sd15", tiny.CONTEXT)


def schedule(clip, prompts, frames=FRAMES, **options):
    return PromptSchedule.execute(clip, prompts, frames, **options).args[0]


def encode(clip, text):
    return CLIPTextEncode().encode(clip, text)[0]


def average(clip, to, of, weight):
    return ConditioningAverage().addWeighted(encode(clip, to), encode(clip, of), weight)[0]


def test_equal_to_conditionings_built_by_hand(clip):
    cat, dog, fish = (encode(clip, text) for text in ("a cat", "a dog", "a fish"))
    by_hand = [cat, *(average(clip, "a dog", "a cat", weight) for weight in (0.25, 0.5, 0.75))]
    by_hand += [dog, average(clip, "a fish", "a dog", 0.5), fish, fish]
    ((text, options),) = schedule(clip, SHORT)
    assert torch.equal(text, torch.cat([each[0][0] for each in by_hand]))
    assert torch.equal(options["pooled_output"], torch.cat([each[0][1]["pooled_output"] for each in by_hand]))
    assert not torch.equal(text[0], text[1]) and not torch.equal(text[3], text[4])


def test_prefix_and_suffix_are_around_every_prompt(clip):
    ((text, _),) = schedule(clip, "0: cat\n4: dog", prefix="a drawn ", suffix=" outside")
    for frame, prompt in ((0, "a drawn cat outside"), (4, "a drawn dog outside")):
        assert torch.equal(text[frame], encode(clip, prompt)[0][0][0])


def test_prompts_of_different_lengths(clip):
    """The short one is repeated, which attention does not see; both keep their own embedding at their frame."""
    ((text, _),) = schedule(clip, f"0: a cat\n4: {LONG}")
    short, long = encode(clip, "a cat")[0][0], encode(clip, LONG)[0][0]
    assert short.shape[1] == 77 and long.shape[1] == 154 and text.shape[:2] == (FRAMES, 154)
    assert torch.equal(text[0], short[0].repeat(2, 1)) and torch.equal(text[4], long[0])
    torch.testing.assert_close(text[2], (text[0] + text[4]) / 2)


def test_each_prompt_is_encoded_once(fitting_clip, monkeypatch):
    seen, tokenize = [], fitting_clip.tokenize
    monkeypatch.setattr(
        fitting_clip, "tokenize", lambda text, **options: seen.append(text) or tokenize(text, **options)
    )
    schedule(fitting_clip, "0: a\n2: b\n4: a")
    assert seen == ["a", "b"]


def test_a_loop_leads_back(fitting_clip):
    ((text, _),) = schedule(fitting_clip, "0: a cat\n4: a dog", loop=True)
    torch.testing.assert_close(text[6], (text[0] + text[4]) / 2)
    torch.testing.assert_close(text[1:4], text[5:].flip(0))


def stock(model, positive, cfg=2.0, frames=FRAMES, first=0):
    """Frames by KSampler, from noise that depends on the frame alone."""
    latent = {"samples": torch.zeros(frames, *tiny.LATENT), "batch_index": list(range(first, first + frames))}
    (video,) = KSampler().sample(model, 3, 2, cfg, "euler", "simple", positive, tiny.text(2), latent, 1.0)
    return video["samples"]


def test_every_frame_is_sampled_with_its_own_prompt(model, fitting_clip):
    positive = schedule(fitting_clip, f"0: a cat\n5: {LONG}")
    video = stock(model, positive)
    for frame in (0, 2, 5, 7):
        alone = [[positive[0][0][frame : frame + 1], {}]]
        torch.testing.assert_close(video[frame], stock(model, alone, frames=1, first=frame)[0], rtol=1e-4, atol=1e-4)
    plain = stock(model, encode(fitting_clip, "a cat"))
    torch.testing.assert_close(video[0], plain[0], rtol=1e-4, atol=1e-4)
    assert (video[7] - plain[7]).abs().max() > 1e-2


@pytest.mark.parametrize(("retain", "causal"), [("0", True), ("", True), ("", False)])
def test_context_windows_keep_each_frames_prompt(model, fitting_clip, retain, causal):
    """Fresh layers mix no frames, so windows must give exactly what the whole video gives."""
    video_model = tiny.with_temporal_layers(model, fresh=True, conditioning_channels=0)
    positive = schedule(fitting_clip, SHORT)
    whole = stock(video_model, positive)
    windowed = stock(tiny.in_windows(video_model, 4, 2, retain, causal), positive)
    torch.testing.assert_close(windowed, whole, rtol=1e-4, atol=1e-4)
    assert (whole - stock(video_model, [[positive[0][0][:1], {}]])).abs().max() > 1e-2


@pytest.mark.parametrize("fresh", [True, False])
def test_the_three_conditioning_sampler(model, vae, fitting_clip, fresh):
    """Whole and in windows, behind First Frame Conditioning; with trained layers, each call has the frames' texts."""
    video_model = tiny.with_temporal_layers(model, fresh=fresh)
    positive, image = schedule(fitting_clip, SHORT), torch.rand(1, 64, 64, 3)
    texts, seen = positive[0][0], []
    unet = video_model.model.diffusion_model
    forward = unet.forward

    def watched(x, timesteps=None, context=None, **rest):
        seen.append(context)
        return forward(x, timesteps=timesteps, context=context, **rest)

    unet.forward = watched

    def sample(model):
        *conds, latent = FirstFrameConditioning.execute(model, vae, image, positive, tiny.text(2), FRAMES).args
        return tiny.emu_sample(model, conds, latent, 1, 3.0, 1.5)

    try:
        whole = sample(video_model)
        assert any(torch.equal(chunk, texts) for call in seen for chunk in call[:, :77].split(FRAMES))
        seen.clear()
        windowed = sample(tiny.in_windows(video_model, 4, 2, "", causal=False))
    finally:
        unet.forward = forward
    for first in (0, 2, 4):
        of_window = texts[first : first + 4]
        assert any(torch.equal(chunk, of_window) for call in seen for chunk in call[:, :77].split(4))
    if fresh:
        torch.testing.assert_close(windowed, whole, rtol=1e-4, atol=1e-4)


def test_windows_of_an_interpolation_get_their_part(interpolation_model, vae, fitting_clip):
    """69 frames in two windows, 0..37 and 32..69."""
    prompts = schedule(fitting_clip, "0: a cat\n68: a dog", frames=69)
    prompts[0][1]["pooled_output"] = torch.randn(69, 5)
    positive, *_ = InterpolationConditioning.execute(
        interpolation_model, vae, torch.rand(16, 32, 32, 3), prompts, tiny.text(2), 4, 4, 0, 0, "continuous"
    ).args
    for window, part in zip(positive, (slice(0, 37), slice(32, 69)), strict=True):
        assert torch.equal(window[0][0], prompts[0][0][part])
        assert torch.equal(window[0][1]["pooled_output"], prompts[0][1]["pooled_output"][part])


def test_prompts_for_another_number_of_frames(video_model, vae, fitting_clip):
    prompts = schedule(fitting_clip, SHORT, frames=16)
    with pytest.raises(ValueError, match="prompts are for 16 frames, but the video has 8: set frames of Prompt Sched"):
        FirstFrameConditioning.execute(video_model, vae, torch.rand(1, 64, 64, 3), prompts, tiny.text(2), 8)


def test_prompts_for_another_number_of_frames_at_ksampler(model, fitting_clip):
    """ComfyUI itself would repeat or cut them without a word."""
    video_model = tiny.with_temporal_layers(model, fresh=True, conditioning_channels=0)
    for frames in (6, 16):
        with pytest.raises(ValueError, match=f"positive has prompts for {frames} frames, but the video has 8: set fra"):
            stock(video_model, schedule(fitting_clip, SHORT, frames=frames))
    two = tiny.with_temporal_layers(model, frames=4, fresh=True, conditioning_channels=0)
    assert stock(two, schedule(fitting_clip, SHORT, frames=4)).isfinite().all()  # two videos with the same prompts


def test_no_clip():
    with pytest.raises(ValueError, match="There is no CLIP.* Load CLIP"):
        schedule(None, SHORT)


def test_value_schedule():
    assert ValueSchedule.execute("0: 1\n4: 0", 6).args == ([1, 0.75, 0.5, 0.25, 0, 0],)
    assert ValueSchedule.execute("0:(0), 2:(1)", 4, loop=True).args == ([0, 0.5, 1, 0.5],)


def test_pooled_text_of_sdxl_in_context_windows(tmp_path):
    """SDXL reads a pooled text beside the tokens: windows must cut it as well."""
    with Stock.loaded("sdxl", True, V_PREDICTION, "", tmp_path) as stock:
        text, frames = stock.prompt(1), 6
        text[0][0] = torch.randn(frames, 7, stock.config["context_dim"], generator=torch.Generator().manual_seed(2))
        width = text[0][1]["pooled_output"].shape[1]
        text[0][1]["pooled_output"] = torch.randn(frames, width, generator=torch.Generator().manual_seed(3))
        noise = torch.randn(frames, *LATENT, generator=torch.Generator().manual_seed(4))

        def video(model, positive):
            return tiny.sample(model, noise=noise, steps=1, positive=positive, negative=stock.prompt(2))

        whole = video(stock.fresh, text)
        windowed = video(tiny.in_windows(stock.fresh, 4, 2, "", causal=False), text)
        torch.testing.assert_close(windowed, whole, rtol=1e-4, atol=1e-4)
        swapped = [[text[0][0], {"pooled_output": text[0][1]["pooled_output"].flip(0)}]]
        assert (video(stock.fresh, swapped) - whole).abs().max() > 1e-3
