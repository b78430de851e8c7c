"""Public reports rebuilt with what other nodes do to a video MODEL and to frames. docs/field.md lists them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import comfy.cldm.cldm
import comfy.controlnet
import comfy.model_management
import comfy.sd
import comfy.t2i_adapter.adapter
import comfy.utils
import folder_paths
import pytest
import torch
from comfy_extras.nodes_hooks import ConditioningSetPropertiesAndCombine, CreateHookLora
from emu_video.host.layer_settings import with_motion_lora
from emu_video.nodes.conditioning import FirstFrameConditioning, JoinVideo, KnownFramesConditioning
from emu_video.nodes.optical_flow import InterpolateFramesOpticalFlow
from emu_video.temporal_layers.reader import Weights
from emu_video.tests.comfyui import tiny
from emu_video.tests.comfyui.core_nodes import core_nodes
from emu_video.tests.comfyui.stand_in import noise_of
from emu_video.tests.comfyui.stock import on_meta, random_weights
from emu_video.tests.comfyui.test_field_checkpoints import WIDTHS, animatediff, sample, stock, v3, with_file
from emu_video.tests.comfyui.test_field_sampling import CLOSE, FRAMES, empty, fresh, ksampler, trained
from emu_video.tests.temporal_layers.formats import public
from safetensors.torch import save_file
from torch import Tensor

nodes: Any = importlib.import_module("nodes")  # ComfyUI's, not the pack's
__all__ = ["stock", "v3"]  # fixtures


# More channels than the checkpoint's own


def ic_light(model: Any, images: Tensor) -> Any:
    """IC-Light: a weight patch that widens the first convolution, and a wrapper that appends latents to the input."""
    lit = model.clone()
    weight = model.model.diffusion_model.input_blocks[0][0].weight
    wide = torch.zeros(len(weight), 8, 3, 3)
    wide[:, 4:] = 0.1 * torch.randn(len(weight), 4, 3, 3, generator=torch.Generator().manual_seed(4))
    lit.add_patches({"diffusion_model.input_blocks.0.0.weight": ("diff", (wide, {"pad_weight": True}))})

    def append(apply_model, given):
        batch = len(given["input"])
        c = {**given["c"], "c_concat": images.repeat(batch // len(images), 1, 1, 1)}
        return apply_model(given["input"], given["timestep"], **c)

    lit.set_model_unet_function_wrapper(append)
    return lit


def test_ic_light_beside_layers_without_known_frames(model):
    images = noise_of(FRAMES, 2)
    lit, plain = ic_light(fresh(model), images), ksampler(fresh(model), empty())
    made = ksampler(lit, empty())
    alone = ksampler(ic_light(fresh(model, frames=4), images), empty())
    torch.testing.assert_close(made, alone, **CLOSE)
    assert (made - plain).abs().max() > 1e-2
    assert torch.equal(ksampler(fresh(model), empty()), plain)  # the first convolution is as it was
    assert ksampler(ic_light(trained(model), images), empty()).isfinite().all()


def test_ic_light_beside_layers_that_know_a_frame(model):
    known = tiny.first_frame_known(FRAMES)
    texts = tiny.text(1, known_frames=known), tiny.text(2, known_frames=known)
    with pytest.raises(ValueError, match="The model got 8 channels instead of 4 .latents. or 9"):
        ksampler(ic_light(tiny.with_temporal_layers(model), noise_of(FRAMES, 2)), empty(), *texts)


# ControlNets and LoRAs


def t2i_adapter() -> Any:
    adapter = comfy.t2i_adapter.adapter.Adapter(list(WIDTHS), 2, 64 * 3, ksize=1, sk=True, use_conv=False, xl=False)
    generator = torch.Generator().manual_seed(5)
    for parameter in adapter.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.5 * fan_in**-0.5))
    return comfy.controlnet.load_t2i_adapter(adapter.state_dict())


def with_net(net: Any, hints: Tensor, positive: Any, negative: Any) -> Any:
    return nodes.ControlNetApplyAdvanced().apply_controlnet(positive, negative, net, hints, 1.0, 0.0, 1.0)


@pytest.mark.parametrize(("kind", "causal"), [("ControlNet", True), ("T2I-Adapter", False), ("both", False)])
def test_every_frame_has_its_own_hint_in_context_windows(stock, v3, kind, causal):
    """Layers that mix nothing: the result is that of the whole video, and a hint changes its own frame alone."""
    nets = {"ControlNet": [controls(stock)], "T2I-Adapter": [t2i_adapter()], "both": [controls(stock), t2i_adapter()]}
    tensors = {key: torch.zeros_like(t) if "proj_out" in key else t for key, t in animatediff().items()}
    silent = with_file(stock.model, tensors)
    hints = torch.rand(4, 64, 128, 3, generator=torch.Generator().manual_seed(6))
    changed = hints.clone()
    changed[3] = 1 - changed[3]

    def video(model, hints):
        texts = stock.prompt(1), stock.prompt(2)
        for net in nets[kind]:
            texts = with_net(net, hints, *texts)
        return sample(stock, model, positive=texts[0], negative=texts[1])

    whole, windowed = silent, tiny.in_windows(silent, 2, 1, "", causal)
    expected, made = video(whole, hints), video(windowed, hints)
    torch.testing.assert_close(made, expected, rtol=1e-3, atol=1e-3)
    difference = (video(windowed, changed) - made).abs().amax(dim=(1, 2, 3))
    assert difference[:3].max() < 1e-3 and difference[3] > 1e-2
    assert torch.equal(video(whole, hints), expected)  # nothing stays on the ControlNet
    assert video(tiny.in_windows(v3, 2, 1, "", causal), hints).isfinite().all()


def test_control_nets_of_other_packs_read_the_window_themselves(stock, v3):
    seen = []

    class Advanced(comfy.controlnet.ControlNet):
        def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
            seen.append(len(self.cond_hint_original))

    net = controls(stock)
    advanced = Advanced(net.control_model, load_device=torch.device("cpu"))
    advanced.copy = lambda: advanced
    texts = with_net(advanced, torch.rand(4, 64, 128, 3), stock.prompt(1), stock.prompt(2))
    sample(stock, tiny.in_windows(v3, 2, 1, "", causal=False), positive=texts[0], negative=texts[1])
    assert set(seen) == {4}


def controls(stock: Any) -> Any:
    config = {key: value for key, value in stock.config.items() if key != "out_channels"} | {"hint_channels": 3}
    weights = random_weights(on_meta(comfy.cldm.cldm.ControlNet, config))
    return comfy.controlnet.load_controlnet_state_dict(weights, model_options={"dtype": torch.float32})


@pytest.mark.parametrize("windowed", [False, True])
def test_a_lora_from_a_frame_on(model, tmp_path, monkeypatch, windowed):
    """A LoRA hook with a batch of masks: frames before stay as they are, frames behind get the LoRA."""
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(tmp_path)], {".safetensors"}))
    save_file(tiny.lora_file(model), tmp_path / "mine.safetensors")
    (hooks,) = CreateHookLora().create_hook("mine.safetensors", 0.7, 0.0)
    mask = torch.zeros(FRAMES, 64, 64)
    mask[5:] = 1.0
    plain = fresh(model)
    with_lora = comfy.sd.load_lora_for_models(plain, None, tiny.lora_file(model), 0.7, 0)[0]

    def by_frames(text):
        (before,) = nodes.ConditioningSetMask().append(text, 1 - mask, "default", 1.0)
        return ConditioningSetPropertiesAndCombine().set_properties(
            before, text, 1.0, "default", mask=mask, hooks=hooks
        )[0]

    ran = tiny.in_windows(plain, 4, 2, "", causal=False) if windowed else plain
    made = ksampler(ran, empty(), by_frames(tiny.text(1)), by_frames(tiny.text(2)))
    torch.testing.assert_close(made[:5], ksampler(plain, empty())[:5], **CLOSE)
    torch.testing.assert_close(made[5:], ksampler(with_lora, empty())[5:], **CLOSE)


def test_two_motion_loras_add_up(stock, v3):
    """In any order, and the same file twice at half strength is the file once."""
    one, other = (Weights(f"{seed}.safetensors", public.motion_lora(WIDTHS, seed=seed)) for seed in (1, 2))
    both = sample(stock, with_motion_lora(with_motion_lora(v3, one, 0.6), other, 0.4))
    swapped = sample(stock, with_motion_lora(with_motion_lora(v3, other, 0.4), one, 0.6))
    assert (both - swapped).norm() < 1e-4 * both.norm()
    halves = sample(stock, with_motion_lora(with_motion_lora(v3, one, 0.5), one, 0.5))
    whole = sample(stock, with_motion_lora(v3, one, 1.0))
    assert (halves - whole).norm() < 1e-4 * whole.norm() and (whole - sample(stock, v3)).norm() > 1e-2 * whole.norm()


def test_a_saved_checkpoint_has_the_lora_and_no_temporal_layers(model, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path))
    video_model = comfy.sd.load_lora_for_models(trained(model), None, tiny.lora_file(model), 0.7, 0)[0]
    expected = {k: v.clone() for k, v in model.model.diffusion_model.state_dict().items()}
    save = core_nodes()["ModelSave"]()
    monkeypatch.setattr(save, "output_dir", str(tmp_path), raising=False)
    save.save(video_model, "saved")
    (file,) = Path(tmp_path).glob("saved*.safetensors")
    saved = {k.removeprefix("model.diffusion_model."): v for k, v in comfy.utils.load_torch_file(str(file)).items()}
    saved = {k.removeprefix("diffusion_model."): v for k, v in saved.items()}
    assert saved.keys() - {"v_pred", "ztsnr"} == expected.keys()  # the two say how the MODEL is sampled
    changed = [key for key in expected if not torch.equal(saved[key], expected[key])]
    assert sorted(changed) == [
        "input_blocks.1.0.in_layers.2.weight", "middle_block.1.proj_in.weight", "output_blocks.3.0.out_layers.3.weight"
    ]  # fmt: skip


# Frames


def test_a_detailer_that_crops_the_frames(model, vae):
    """A face is cropped and sampled again: layers that know a frame say that the size is another, others do it."""
    known = tiny.first_frame_known(FRAMES)
    texts = tiny.text(1, known_frames=known), tiny.text(2, known_frames=known)
    crop = {"samples": noise_of(FRAMES, 4)[..., 2:6, 2:6], "noise_mask": torch.ones(FRAMES, 1, 4, 4)}
    with pytest.raises(ValueError, match="latents of the known frames are 8x8, but those of the video are 4x4"):
        ksampler(tiny.with_temporal_layers(model), crop, *texts, denoise=0.5)
    assert ksampler(trained(model), crop, denoise=0.5).isfinite().all()


def test_the_reference_image_of_reference_only(model):
    """The node puts a reference in front of the batch and masks it: it is then the first frame of the video."""
    latent = {"samples": torch.cat((noise_of(1, 7), torch.zeros(FRAMES, *tiny.LATENT)))}
    latent["noise_mask"] = torch.cat((torch.zeros(1, 1, 8, 8), torch.ones(FRAMES, 1, 8, 8)))
    made = ksampler(trained(model), latent)
    torch.testing.assert_close(made[:1], latent["samples"][:1], **CLOSE)
    other = {**latent, "samples": torch.cat((noise_of(1, 8), latent["samples"][1:]))}
    assert (ksampler(trained(model), other)[1:] - made[1:]).abs().max() > 1e-3


def test_the_first_frame_is_the_given_image(model, vae):
    """Sampling and the VAE change it a little; Join Video puts it back."""
    video_model, image = tiny.with_temporal_layers(model), torch.rand(1, 64, 64, 3)
    positive, _, negative, latent, layout = KnownFramesConditioning.execute(
        video_model, vae, image, tiny.text(1), tiny.text(2), FRAMES, "0"
    ).args
    frames = vae.decode(ksampler(video_model, latent, positive, negative))
    (joined,) = JoinVideo.execute([frames], [layout], [image]).args
    assert torch.equal(joined[0][:1], image) and torch.equal(joined[0][1:], frames[1:])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_latents_in_half_precision(model, dtype):
    half = {"samples": noise_of(FRAMES, 6).to(dtype)}
    whole = {"samples": half["samples"].float()}
    for denoise in (1.0, 0.6):
        made = ksampler(trained(model), half, denoise=denoise)
        expected = ksampler(trained(model), whole, denoise=denoise)
        assert (made.float() - expected).norm() < 0.1 * expected.norm()


def test_images_that_no_video_codec_takes(model, vae):
    with pytest.raises(ValueError, match="66x50, but width and height must be multiples of 8.*64x48"):
        FirstFrameConditioning.execute(
            tiny.with_temporal_layers(model), vae, torch.rand(1, 50, 66, 3), tiny.text(1), tiny.text(2), FRAMES
        )


def test_frames_are_decoded_as_alone(vae):
    latent = noise_of(24, 3)
    (video,) = nodes.VAEDecode().decode(vae, {"samples": latent})
    alone = torch.cat([nodes.VAEDecode().decode(vae, {"samples": latent[i : i + 1]})[0] for i in (0, 11, 23)])
    torch.testing.assert_close(video[[0, 11, 23]], alone, **CLOSE)
    (tiled,) = nodes.VAEDecodeTiled().decode(vae, {"samples": latent}, 64, 0, 8, 2)
    assert tiled.shape == video.shape


# Interpolation


def moving(frames: int) -> Tensor:
    """A white square that moves two pixels in each frame."""
    video = torch.zeros(frames, 48, 64, 3)
    for frame in range(frames):
        video[frame, 16:32, 8 + 2 * frame : 24 + 2 * frame] = 1.0
    return video


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_every_frame_is_kept_and_none_is_missing(factor):
    video = moving(4)
    (made,) = InterpolateFramesOpticalFlow.execute(video, factor).args
    assert len(made) == 3 * factor + 1 and torch.equal(made[::factor], video)


def test_batches_that_overlap_by_a_frame_make_the_whole(model):
    video = moving(5)
    (whole,) = InterpolateFramesOpticalFlow.execute(video, 3).args
    first, second = (InterpolateFramesOpticalFlow.execute(part, 3).args[0] for part in (video[:3], video[2:]))
    torch.testing.assert_close(torch.cat((first, second[1:])), whole, **CLOSE)


def test_frames_between_two_equal_ones_are_equal():
    video = moving(3)[[0, 1, 1, 2]]
    (made,) = InterpolateFramesOpticalFlow.execute(video, 4).args
    torch.testing.assert_close(made[4:9], video[1:2].expand(5, -1, -1, -1), rtol=0, atol=1e-3)
