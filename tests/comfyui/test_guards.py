"""Set-ups that would sample wrongly without an error are refused, and doubtful ones are reported."""

from __future__ import annotations

import dataclasses
import logging
from types import SimpleNamespace
from unittest.mock import Mock

import comfy.cldm.cldm
import comfy.controlnet
import comfy.model_management
import pytest
import torch
from comfy.samplers import sampler_object
from comfy_extras.nodes_custom_sampler import Guider_DualModel
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete
from comfy_extras.nodes_train import TrainGuider
from emu_video.diffusion.schedule import Schedule
from emu_video.host.guards import check_context_windows, check_sampling
from emu_video.host.guider import share_control
from emu_video.host.injection import check_layers, inject
from emu_video.host.schedule import ZeroSNRFlow, native_sigmas
from emu_video.host.videos import PURPOSE, Purpose
from emu_video.nodes.conditioning import FirstFrameConditioning
from emu_video.nodes.sampling import EmuVideoGuider, EmuVideoSampler, ZeroTerminalSNRSchedule
from emu_video.temporal_layers.noise import Discrete
from emu_video.tests.comfyui import tiny
from emu_video.tests.comfyui.core_nodes import call, calls
from emu_video.tests.comfyui.features import nodes
from emu_video.tests.comfyui.tiny import FRAMES, LATENT, sample, text

LINEAR = {"schedule": "linear", "start": 0.00085, "end": 0.012, "steps": 1000}


def known():
    return tiny.first_frame_known()


def conditionings():
    """(positive, image_only, negative)"""
    return text(1, known_frames=known()), text(2, known_frames=known()), text(2, known_frames=torch.zeros_like(known()))


def made_for(conditioning, role="video", part="positive", order="known_frames"):
    return [[entry, {**options, PURPOSE: Purpose(role, part, FRAMES, order)}] for entry, options in conditioning]


def emu(model, conds=None, text_guidance=7.5, image_guidance=2.0):
    latent = {"samples": torch.zeros(FRAMES, *LATENT)}
    conds = conds or conditionings()
    return EmuVideoSampler.execute(model, *conds, latent, 0, 2, text_guidance, image_guidance, 0.0, 0.0).args[0][
        "samples"
    ]


class Eps(tiny.TinyConfig):
    def model_type(self, state_dict, prefix=""):
        return tiny.ModelType.EPS


@pytest.fixture
def eps_model(monkeypatch):
    monkeypatch.setattr(tiny, "TinyConfig", Eps)
    return tiny.checkpoint()


def eps_layers(model, **entries):
    """A MODEL with layers as AnimateDiff's: eps-prediction and linear betas."""
    state_dict, info = tiny.temporal(model, conditioning_channels=0, **entries)
    return inject(model, state_dict, dataclasses.replace(info, noise=Discrete(**LINEAR, prediction="eps")), "v3.ckpt")


# Frames


def test_one_latent(video_model):
    with pytest.raises(ValueError, match="There is one latent, but temporal layers need a video of at least 2 frames"):
        sample(video_model, frames=1)
    with pytest.raises(ValueError, match="The frames of Load Temporal Layers are 1"):
        sample(tiny.with_temporal_layers(video_model, frames=1))


def tiles(apply_model, args):
    """Left and right half as one batch, as tiled diffusion calls a model."""
    x, t, c = args["input"], args["timestep"], dict(args["c"])
    for key, value in c.items():
        if isinstance(value, torch.Tensor):
            c[key] = torch.cat(value.chunk(2, dim=-1) if key == "c_concat" else (value, value))
    return torch.cat(apply_model(torch.cat(x.chunk(2, dim=-1)), torch.cat([t, t]), **c).chunk(2), dim=-1)


def one_by_one(apply_model, args):
    halves = []
    for half in (0, 1):
        c = {k: v.chunk(2, dim=-1)[half] if k == "c_concat" else v for k, v in args["c"].items()}
        halves.append(apply_model(args["input"].chunk(2, dim=-1)[half], args["timestep"], **c))
    return torch.cat(halves, dim=-1)


@pytest.mark.parametrize("frames", [0, FRAMES])
@pytest.mark.parametrize("windows", [False, True])
def test_tiles_in_the_batch_are_separate_videos(model, frames, windows):
    results = []
    for wrapper in (tiles, one_by_one):
        video = tiny.with_temporal_layers(model, frames=0 if windows else frames)
        video = tiny.in_windows(video, 3, 1) if windows else video
        video.set_model_unet_function_wrapper(wrapper)
        options = {"positive": text(1, known_frames=known()), "negative": text(2, known_frames=known())}
        results.append(sample(video, **options))
    torch.testing.assert_close(results[0], results[1], atol=1e-4, rtol=1e-4)


def test_calls_that_hold_no_clip(video_model):
    def frame_by_frame(apply_model, args):
        parts = [
            apply_model(x, t, **{k: v[i : i + 1] if isinstance(v, torch.Tensor) else v for k, v in args["c"].items()})
            for i, (x, t) in enumerate(zip(args["input"].split(1), args["timestep"].split(1), strict=True))
        ]
        return torch.cat(parts)

    video_model.set_model_unet_function_wrapper(frame_by_frame)
    with pytest.raises(ValueError, match="calls the model with 1 of the 4 frames|calls the model with 0 of"):
        sample(video_model, cfg=1.0)


def test_context_windows_that_cut_no_clips(video_model, eps_model, caplog):
    def windows(model, **changes):
        from comfy_extras.nodes_context_windows import ContextWindowsManualNode

        options = {
            "context_length": 3, "context_overlap": 1, "context_schedule": "standard_static", "context_stride": 1,
            "closed_loop": False, "fuse_method": "pyramid", "dim": 0, "freenoise": False,
            "cond_retain_index_list": "", "latent_retain_index_list": "", "causal_window_fix": True,
        }  # fmt: skip
        return ContextWindowsManualNode.execute(model, **{**options, **changes}).result[0]

    for change, message in (
        ({"dim": 2}, "has dim 2, but the frames of these latents are dimension 0"),
        ({"context_length": 1}, "1 frame"),
    ):
        with pytest.raises(ValueError, match=message):
            sample(windows(video_model, **change))
    with pytest.raises(ValueError, match="Context Windows would mix the 2 videos of the batch: set frames"):
        check_context_windows(SimpleNamespace(context_length=4, dim=0), check_layers(video_model), videos=2)
    sample(windows(eps_layers(eps_model)))
    assert any("switch causal_window_fix off" in message for message in caplog.messages)


# Schedules


def test_schedule_nodes_behind_the_layers(eps_model):
    video = eps_layers(eps_model)
    for kind in ("eps", "lcm", "v_prediction"):
        with pytest.raises(ValueError, match="replaced the noise schedule that the temporal layers were trained with"):
            sample(ModelSamplingDiscrete().patch(video, kind, False)[0])


def test_lcm_before_the_layers_keeps_its_type_and_gets_their_betas(eps_model):
    video = eps_layers(ModelSamplingDiscrete().patch(eps_model, "lcm", False)[0])
    sampling = video.get_model_object("model_sampling")
    betas = native_sigmas(Schedule.from_betas(**LINEAR, zero_terminal_snr=False))
    assert sampling.skip_steps == 20 and torch.allclose(sampling.sigmas, betas[19::20].float())
    assert sample(video).isfinite().all()


def test_our_schedule_node_keeps_the_betas_of_the_layers(model, eps_model):
    state_dict, info = tiny.temporal(model)
    noise = Discrete(**LINEAR, prediction="v", zero_terminal_snr=True)
    fancy = inject(model, state_dict, dataclasses.replace(info, noise=noise), "fancy")
    expected = fancy.get_model_object("model_sampling").sigmas
    (again,) = ZeroTerminalSNRSchedule.execute(fancy, "auto", True).args
    assert torch.equal(again.get_model_object("model_sampling").sigmas, expected)
    assert sample(again).isfinite().all()
    (native,) = ZeroTerminalSNRSchedule.execute(eps_layers(eps_model), "auto", False).args
    assert torch.equal(
        native.get_model_object("model_sampling").sigmas,
        eps_layers(eps_model).get_model_object("model_sampling").sigmas,
    )


def test_our_schedule_node_does_not_change_what_the_layers_predict(video_model, eps_model):
    for video, prediction in ((video_model, "eps"), (eps_layers(eps_model), "v")):
        with pytest.raises(ValueError, match=f"predict .*, not {prediction}: set prediction to auto"):
            ZeroTerminalSNRSchedule.execute(video, prediction, prediction == "v")


def test_sigmas_of_the_checkpoint_before_our_schedule_node(model):
    shrunk = call("PatchModelAddDownscale", next(calls("PatchModelAddDownscale", MODEL=model)))
    with pytest.raises(ValueError, match="which Zero-Terminal-SNR Schedule replaces: connect it behind Zero-Terminal"):
        ZeroTerminalSNRSchedule.execute(shrunk, "v", True)
    ZeroTerminalSNRSchedule.execute(shrunk, "v", False)


@pytest.mark.parametrize("name", ["EasyCache", "LazyCache"])
def test_caches_read_the_schedule_of_the_layers(video_model, monkeypatch, name):
    """They read that of the loaded model, which at first is the checkpoint's."""
    seen = []
    cached = call(name, next(calls(name, MODEL=video_model, reuse_threshold=0.0)))
    holder = type(cached.model_options["transformer_options"]["easycache"])
    prepare = holder.prepare_timesteps

    def prepared(self, model_sampling):
        seen.append(type(model_sampling))
        return prepare(self, model_sampling)

    monkeypatch.setattr(holder, "prepare_timesteps", prepared)
    comfy.model_management.unload_all_models()
    assert sample(cached).isfinite().all() and seen == [ZeroSNRFlow]
    windows = tiny.in_windows(cached, 3, 1)
    if name == "EasyCache":
        with pytest.raises(ValueError, match="EasyCache would mix up the windows .*: use LazyCache"):
            sample(windows)
    else:
        assert sample(windows).isfinite().all()


def test_train_lora_behind_our_schedule_node(model, video_model):
    """It passes the numbers of its images as sigmas."""

    def run(video):
        executor = Mock(class_obj=TrainGuider(video))
        images = torch.zeros(2, *LATENT)
        check_sampling(executor, images, images, None, torch.tensor([0.0, 1.0, 2.0]))
        executor.assert_called_once()

    run(ZeroTerminalSNRSchedule.execute(model, "v", True).args[0])
    with pytest.raises(ValueError, match="use Train Temporal Layers"):
        run(video_model)


def test_a_second_model_without_layers_in_one_guider(model, video_model):
    guider = Guider_DualModel(video_model, tiny.checkpoint())
    guider.set_conds(conditionings()[0], conditionings()[2])
    guider.set_cfg(4.0)
    with pytest.raises(ValueError, match="connect Load Temporal Layers to both, or use CFG Guider"):
        noise, empty = torch.randn(FRAMES, *LATENT), torch.zeros(FRAMES, *LATENT)
        guider.sample(noise, empty, sampler_object("euler"), torch.tensor([1.0, 0.0]))


def test_eps_layers_on_a_v_checkpoint_behind_other_layers(video_model, caplog):
    assert isinstance(video_model.get_model_object("model_sampling"), ZeroSNRFlow)
    with pytest.raises(ValueError, match="trained on a checkpoint that predicts noise"):
        eps_layers(video_model)
    tiny.with_temporal_layers(video_model)
    assert any("replace the Emu Video" in message for message in caplog.messages)


# Conditionings


def test_conditionings_of_longer_videos_than_the_layers(model, vae):
    """A video of 4 frames is not sampled as two of 2, of which only the first has a known frame."""
    two = tiny.with_temporal_layers(model, frames=FRAMES // 2)
    size = LATENT[1] * 8
    conds = FirstFrameConditioning.execute(two, vae, torch.rand(1, size, size, 3), text(1), text(2), FRAMES).args[:3]
    with pytest.raises(ValueError, match="made for a video of 4 frames, but frames of Load Temporal Layers is 2: set"):
        emu(two, conds)


def test_conditionings_for_other_layers(video_model, interpolation_model, eps_model):
    for model, role in ((interpolation_model, "video"), (video_model, "interpolation")):
        conds = made_for(conditionings()[0], role)
        with pytest.raises(ValueError, match=f"made for temporal layers of the role {role}"):
            sample(model, positive=conds, negative=conds)
    affinity = made_for(conditionings()[0], order="affinity")
    with pytest.raises(ValueError, match="channel order affinity"):
        sample(video_model, positive=affinity, negative=affinity)
    with pytest.raises(ValueError, match="carry known frames, but these temporal layers .* read none"):
        sample(eps_layers(eps_model), positive=conditionings()[0], negative=conditionings()[0])
    nine = text(1, known_frames=torch.zeros(FRAMES, 9, *LATENT[1:]))
    with pytest.raises(ValueError, match="have 9 channels of known frames and mask, but .* read 5"):
        sample(video_model, positive=nine, negative=nine)
    with pytest.raises(ValueError, match="combines entries with and without known frames"):
        sample(video_model, positive=conditionings()[0] + text(3), negative=conditionings()[0])


def test_wrong_inputs_of_the_guider(video_model):
    positive, image_only, negative = conditionings()
    swapped = positive, made_for(negative, part="negative"), made_for(image_only, part="image_only")
    with pytest.raises(ValueError, match="input image_only is connected to an output negative"):
        emu(video_model, swapped)
    with pytest.raises(ValueError, match="positive has no known frames"):
        emu(video_model, (text(1), text(2), text(2)))


@pytest.mark.parametrize("name", ["text_guidance", "image_guidance"])
def test_weights_that_are_no_numbers(video_model, name):
    with pytest.raises(ValueError, match=f"{name} is nan: enter a finite number"):
        emu(video_model, **{name: float("nan")})


# ControlNet and image prompts


def test_image_only_shares_the_control_of_the_two_others(video_model):
    config = {key: value for key, value in tiny.UNET.items() if key != "out_channels"} | {"hint_channels": 3}
    net = comfy.cldm.cldm.ControlNet(**config, operations=comfy.ops.disable_weight_init)
    generator = torch.Generator().manual_seed(2)
    for parameter in net.parameters():
        scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
        parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    control = comfy.controlnet.ControlNet(net, load_device=torch.device("cpu"))
    hints = torch.rand(FRAMES, 64, 64, 3, generator=torch.Generator().manual_seed(4))

    def with_control(one, other):
        return nodes.ControlNetApplyAdvanced().apply_controlnet(one, other, control, hints, 0.1, 0.0, 1.0)

    positive, image_only, negative = conditionings()
    two = with_control(positive, negative)
    all_three = two[0], with_control(positive, image_only)[1], two[1]
    shared = emu(video_model, (two[0], image_only, two[1]))
    torch.testing.assert_close(shared, emu(video_model, all_three), atol=2e-3, rtol=1e-4)
    assert not torch.allclose(shared, emu(video_model), atol=0.1)


def test_different_controls_of_the_parts_are_not_shared(caplog):
    first, second = object(), object()
    parts = [[None, {"control": control, "control_apply_to_uncond": False}] for control in (first, second)]
    conds = {"positive": parts, "negative": parts, "image_only": [[None, {}]]}
    assert share_control(conds) == conds
    assert any("different ControlNets, so image_only gets none" in message for message in caplog.messages)
    assert share_control({**conds, "positive": [parts[0]] * 2})["image_only"][0][1]["control"] is first


def test_latents_of_another_autoencoder_are_refused(video_model):
    with pytest.raises(ValueError, match="The latents have 16 channels, but the model works on 4: encode the images"):
        sample(video_model, noise=torch.randn(FRAMES, 16, *LATENT[1:]))


def test_patches_see_positive_as_0_and_the_others_as_1(video_model):
    seen = set()

    def patch(q, k, v, extra_options):
        seen.add(tuple(extra_options["cond_or_uncond"]))
        return q

    patched = video_model.clone()
    patched.set_model_attn2_output_patch(lambda out, options: (seen.add(tuple(options["cond_or_uncond"])), out)[1])
    assert torch.equal(emu(patched), emu(video_model))
    assert {frozenset(labels) for labels in seen} == {frozenset({0, 1})} and max(map(len, seen)) == 3


def test_weights_that_a_file_states(model):
    stating = tiny.with_temporal_layers(model, text_guidance=4.0, image_guidance=1.5)
    arguments = *conditionings(), 7.5, 2.0, 0.0, "as trained"
    (guider,) = EmuVideoGuider.execute(stating, *arguments).args
    assert (guider.cfg, guider.image_guidance) == (4.0, 1.5)


def test_weights_as_trained(video_model, caplog):
    """Only weights at their defaults follow the layers; the small test model has the base of the pocket."""
    conds = conditionings()

    def weights(*given, **more):
        (guider,) = EmuVideoGuider.execute(video_model, *conds, *given, 0.0, **more).args
        return guider.cfg, guider.image_guidance

    assert weights(7.5, 2.0) == (7.5, 2.0)  # an API prompt without the input
    assert weights(7.5, 2.0, guidance="as trained") == (2.0, 1.0)
    assert weights(5.0, 2.0, guidance="as trained") == (5.0, 1.0)
    with caplog.at_level(logging.INFO):  # a sweep over 2.0 shows what was used
        weights(5.0, 2.0, guidance="as trained")
    assert caplog.messages == ["Emu Video: guidance as trained, text 5 and image 1"]
    assert weights(7.5, 2.0, guidance="as set") == (7.5, 2.0)
