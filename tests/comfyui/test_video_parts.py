"""ControlNet hints, masks and areas of a whole video that a layout cuts into windows and tiles."""

import importlib
from types import SimpleNamespace
from typing import Any

import comfy.controlnet
import comfy.samplers
import pytest
import torch
from emu_video.host.control_hints import hints_follow_windows
from emu_video.host.layer_settings import with_strength
from emu_video.host.spans import Span, VideoPart
from emu_video.host.videos import PURPOSE, sampled_part
from emu_video.nodes.conditioning import ExtendVideoConditioning, FirstFrameConditioning, InterpolationConditioning
from emu_video.nodes.sampling import EmuVideoSampler
from emu_video.nodes.second_pass import SuperResolutionConditioning
from emu_video.tests.comfyui import tiny

nodes: Any = importlib.import_module("nodes")  # ComfyUI's, not the pack's

TEXT = tiny.text(1), tiny.text(2)
FRAMES = 7  # two windows of the 4 frames that the layers were trained with: 0 to 3 and 3 to 6


@pytest.fixture
def sharp_model(model):
    return tiny.with_temporal_layers(model, role="super_resolution", noise_told=True)


class Net(torch.nn.Module):
    """A ControlNet without an effect that notes the hints of each call."""

    dtype = torch.float32

    def __init__(self):
        super().__init__()
        self.hints = []

    def forward(self, x, hint, timesteps, context, **conds):
        self.hints.append(hint)
        return {"input": [None], "middle": [], "output": []}


def control_net(hints):
    """(net, function that applies it to two conditionings, as Apply ControlNet does)"""
    net = Net()
    control = comfy.controlnet.ControlNet(net, load_device=torch.device("cpu"))
    apply = nodes.ControlNetApplyAdvanced().apply_controlnet
    return net, lambda positive, negative: apply(positive, negative, control, hints, 1.0, 0.0, 1.0)


def set_mask(mask):
    def apply(positive, negative):
        return nodes.ConditioningSetMask().append(positive, mask, "default", 1.0)[0], negative

    return apply


def numbered(count=FRAMES, height=8, width=8):
    """Masks whose values are the frames' numbers."""
    return (torch.arange(count) / 10)[:, None, None].expand(count, height, width)


def parts(model, vae, apply, is_before=True, size=(32, 32), **options):
    """Conditionings and latent of each window and tile, with a stock node before or after the conditioning node."""
    texts = apply(*TEXT) if is_before else TEXT
    frames = torch.rand(FRAMES, *size, 3, generator=torch.Generator().manual_seed(4))
    *made, _ = SuperResolutionConditioning.execute(model, vae, frames, *texts, 2, 0, 0, **options).args
    each = [list(part) for part in zip(*made, strict=True)]
    if not is_before:
        for part in each:
            part[0], part[2] = apply(part[0], part[2])
    return each


def sampled(model, part):
    return tiny.emu_sample(model, part[:3], part[3], text_guidance=2.0)


def seen_masks(monkeypatch):
    """Masks of the entries that have one, each as [frames, h, w]."""
    seen, original = [], comfy.samplers.get_area_and_mult

    def noted(entry, x, timestep):
        found = original(entry, x, timestep)
        if "mask" in entry:
            seen.append(found.mult[:, 0])
        return found

    monkeypatch.setattr(comfy.samplers, "get_area_and_mult", noted)
    return seen


@pytest.mark.parametrize("is_before", [True, False])
def test_hints_of_every_window(sharp_model, vae, is_before):
    hints = numbered(height=64, width=64)[..., None].expand(-1, -1, -1, 3)
    net, apply = control_net(hints)
    for part, window in zip(parts(sharp_model, vae, apply, is_before), (slice(0, 4), slice(3, 7)), strict=True):
        net.hints.clear()
        sampled(sharp_model, part)
        assert net.hints
        for hint in net.hints:
            for each in hint.split(4):
                assert torch.equal(each, hints[window].movedim(-1, 1))
        control = part[0][0][1]["control"]
        assert torch.equal(control.cond_hint_original, hints.movedim(-1, 1))  # other windows need the others


def test_hints_of_context_windows_inside_a_window(sharp_model, vae):
    """Windows of 6 frames, each sampled in two context windows."""
    net, apply = control_net(numbered(height=64, width=64)[..., None].expand(-1, -1, -1, 3))
    model = tiny.in_windows(sharp_model, 4, 2, "", causal=False)
    second = parts(sharp_model, vae, apply, window=6)[1]  # 1 to 6
    sampled(model, second)
    seen = {tuple(round(float(value) * 10) for value in hint[:4, 0, 0, 0]) for hint in net.hints}
    assert seen == {(1, 2, 3, 4), (3, 4, 5, 6)}


def test_hints_on_another_gpu(sharp_model, vae):
    """ComfyUI caches a copy of a control for each other GPU. The copy must get the hints of the current window."""
    net, apply = control_net(numbered(height=64, width=64)[..., None].expand(-1, -1, -1, 3))
    other, seen = torch.device("cpu", 1), []
    for part in parts(sharp_model, vae, apply):
        conds = {"positive": [part[0][0][1]]}
        control = conds["positive"][0]["control"]
        with hints_follow_windows(conds, sampled_part(conds)):
            copy = control.get_instance_for_device(other)
            assert copy is control  # none is left of the window before
            control.deepclone_multigpu(other, autoregister=True)
            copy = control.get_instance_for_device(other)
            copy.pre_run(sharp_model.model, sharp_model.model.model_sampling.percent_to_sigma)
            options = {"context_window": SimpleNamespace(index_list=[1, 3])}
            call = {"c_crossattn": torch.zeros(2, 4, 8)}
            copy.get_control(torch.zeros(2, 4, 8, 8), torch.ones(2), call, 1, options)
            seen.append([round(float(hint) * 10) for hint in copy.control_model.hints[-1][:, 0, 0, 0]])
    assert seen == [[1, 3], [4, 6]]


@pytest.mark.parametrize("is_before", [True, False])
def test_masks_of_every_window(sharp_model, vae, is_before, monkeypatch):
    seen, masks = seen_masks(monkeypatch), numbered() + 0.1
    each = parts(sharp_model, vae, set_mask(masks), is_before)
    for part, window in zip(each, (slice(0, 4), slice(3, 7)), strict=True):
        seen.clear()
        sampled(sharp_model, part)
        assert seen and all(torch.equal(mask, masks[window]) for mask in seen)


@pytest.mark.parametrize(("count", "is_right"), [(1, True), (4, True), (5, False), (14, False)])
def test_the_number_of_masks_and_hints(sharp_model, vae, count, is_right):
    """One for all frames, or one for each frame of the window, as with texts."""
    for apply, name in (
        (set_mask(numbered(count)), "masks"),
        (control_net(numbered(count, 64, 64)[..., None].expand(-1, -1, -1, 3))[1], "images for a ControlNet"),
    ):
        second = parts(sharp_model, vae, apply)[1]
        if is_right:
            assert sampled(sharp_model, second).isfinite().all()
        else:
            with pytest.raises(ValueError, match=f"are {count} {name}, but the video has 7 frames: connect one, or"):
                sampled(sharp_model, second)


def test_image_prompts_of_every_window(sharp_model, vae):
    """IP-Adapter picks its images by this entry of the options."""
    seen = []

    def noted(n, context, value, extra):
        seen.append(extra["ad_params"])
        return n, context, value

    def frames_seen(model, part):
        seen.clear()
        patched = model.clone()
        patched.set_model_attn2_patch(noted)
        sampled(patched, part)
        assert all(each["full_length"] == FRAMES for each in seen)
        return {tuple(each["sub_idxs"]) for each in seen}

    each = parts(sharp_model, vae, lambda *texts: texts)
    assert [frames_seen(sharp_model, part) for part in each] == [{(0, 1, 2, 3)}, {(3, 4, 5, 6)}]
    second = parts(sharp_model, vae, lambda *texts: texts, window=6)[1]  # 1 to 6
    inside = tiny.in_windows(sharp_model, 4, 2, "", causal=False)
    assert frames_seen(inside, second) == {(1, 2, 3, 4), (3, 4, 5, 6)}


def test_a_noise_mask_of_the_whole_video(sharp_model, vae):
    """Frames from number 3 on are sampled: the last of the first window, and the whole second window."""
    mask = (torch.arange(FRAMES) >= 3).float()[:, None, None].expand(-1, 8, 8)
    first, second = parts(sharp_model, vae, lambda *texts: texts)
    for part, kept in ((first, 3), (second, 0)):
        latent = {**part[3], "samples": torch.ones_like(part[3]["samples"]), "noise_mask": mask}
        video = sampled(sharp_model, [*part[:3], latent])
        assert [bool((frame == 1).all()) for frame in video] == [True] * kept + [False] * (4 - kept)


def test_strength_of_every_window(sharp_model, vae):
    """Numbers and masks of the whole video: each window gets its part, the same as numbers of the window alone."""
    numbers = [0.1 * frame for frame in range(FRAMES)]
    of_video = with_strength(sharp_model, 1.0, 1.0, per_frame=numbers)
    by_mask = with_strength(sharp_model, 1.0, 1.0, mask=numbered())
    for part, window in zip(parts(sharp_model, vae, lambda *texts: texts), (slice(0, 4), slice(3, 7)), strict=True):
        expected = sampled(with_strength(sharp_model, 1.0, 1.0, per_frame=numbers[window]), part)
        assert torch.equal(sampled(of_video, part), expected)
        torch.testing.assert_close(sampled(by_mask, part), expected)


def test_fresh_noise_of_a_frame_is_the_same_in_all_windows(model, vae):
    """Layers without an effect make every frame by itself, so a frame differs between windows only by its noise."""
    plain = tiny.with_temporal_layers(model, role="super_resolution", fresh=True)
    conds, still = (tiny.text(1), tiny.text(2)), torch.rand(1, 32, 32, 3).expand(FRAMES, -1, -1, -1)

    def video(part, steps=3):
        return EmuVideoSampler.execute(plain, *part, 0, steps, 1.0, 1.0, 0.0, 1.0).args[0]["samples"]

    first, second = parts(plain, vae, lambda *texts: texts)
    assert torch.equal(video(first)[3], video(second)[0]) and not torch.equal(video(first)[2], video(second)[0])
    *made, _ = SuperResolutionConditioning.execute(
        plain, vae, still, *conds, 2, 0, 0, initial_noise="same for all frames"
    ).args
    frames = video(next(zip(*made, strict=True)))
    assert torch.equal(frames[0], frames[3])


def test_windows_of_the_other_layouts(video_model, interpolation_model, vae):
    images = torch.rand(16, 32, 32, 3)
    positive, *_ = InterpolationConditioning.execute(
        interpolation_model, vae, images, *TEXT, 4, 4, 0, 0, "continuous"
    ).args
    windows = [each[0][1][PURPOSE].video_part for each in positive]
    assert windows == [VideoPart(Span(0, 37, 69)), VideoPart(Span(32, 37, 69))]
    longer = ExtendVideoConditioning.execute(video_model, vae, images, *TEXT, 8, 2).args[0]
    assert longer[0][1][PURPOSE].video_part == VideoPart(Span(14, 8, 22))
    whole = FirstFrameConditioning.execute(video_model, vae, images[:1], *TEXT, 4).args[0]
    assert whole[0][1][PURPOSE].video_part is None


@pytest.mark.parametrize("is_before", [True, False])
def test_masks_and_hints_of_every_tile(sharp_model, vae, is_before, monkeypatch):
    """128 x 64 pixels in tiles of 64: each tile has its part of what was made for the whole picture."""
    picture = torch.rand(FRAMES, 64, 128, generator=torch.Generator().manual_seed(5))
    coarse = torch.rand(FRAMES, 8, 16, generator=torch.Generator().manual_seed(6))
    net, with_hints = control_net(picture[..., None].expand(-1, -1, -1, 3))
    with_masks, seen = set_mask(coarse), seen_masks(monkeypatch)
    each = parts(
        sharp_model, vae, lambda *texts: with_masks(*with_hints(*texts)), is_before, size=(32, 64), tile=64, window=7
    )
    starts = [part[0][0][1][PURPOSE].video_part.tile[1].start for part in each]
    assert len(each) == 3 and (starts[0], starts[-1]) == (0, 8)
    for part, start in zip(each, starts, strict=True):
        seen.clear()
        net.hints.clear()
        sampled(sharp_model, part)
        assert all(torch.equal(mask, coarse[..., start : start + 8]) for mask in seen) and seen
        tile = picture[..., 8 * start : 8 * start + 64]
        assert all(torch.equal(hint[:FRAMES, 0], tile) for hint in net.hints) and net.hints


def test_what_does_not_work_with_tiles(sharp_model, vae):
    clip = SimpleNamespace(tokenize=lambda text: text, encode_from_tokens=lambda *_, **__: (None, None))
    masked = with_strength(sharp_model, 0.5, 1.0, mask=torch.ones(1, 8, 8))

    def area(positive, negative):
        return nodes.ConditioningSetArea().append(positive, 64, 64, 64, 0, 1.0)[0] + positive, negative

    def box(positive, negative):
        return nodes.GLIGENTextBoxApply().append(positive, clip, object(), "a box", 32, 32, 0, 16)[0], negative

    def nothing(positive, negative):
        return positive, negative

    for model, apply, name in (
        (sharp_model, area, "Conditioning .Set Area. does"),
        (sharp_model, box, "GLIGEN Textbox Apply does"),
        (masked, nothing, "The mask of Temporal Layer Strength does"),
    ):
        for is_before in (True, False):
            tile = parts(model, vae, apply, is_before, size=(32, 64), tile=64)[0]
            with pytest.raises(ValueError, match=f"{name} not work with tiles: set tile of Super-Resolution Cond.* 0"):
                sampled(model, tile)
    for model, apply in ((sharp_model, area), (masked, nothing)):
        whole = parts(model, vae, apply, size=(32, 64))[0]
        assert sampled(model, whole).isfinite().all()
