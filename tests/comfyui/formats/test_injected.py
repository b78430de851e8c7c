"""Public temporal layers on a MODEL of ComfyUI: schedule, conditioning, settings and motion LoRAs by the stock way."""

from __future__ import annotations

import sys

import comfy.model_management
import comfy.sd
import pytest
import torch
from comfy.model_base import ModelType
from diffusers import PIAPipeline  # pyright: ignore[reportPrivateImportUsage]
from emu_video.diffusion.affinity import LOOPS, PRESETS, affinities, concat_affinity
from emu_video.host.affinity_conditioning import affinity_conditioning
from emu_video.host.conditioning import first_frame_conditioning
from emu_video.host.injection import inject
from emu_video.host.known_frames_at_size import conditionings_at_size
from emu_video.host.layer_settings import with_motion_lora, with_strength, with_values
from emu_video.host.schedule import ZeroSNRFlow
from emu_video.temporal_layers.backbones import unet as unet_backbone
from emu_video.temporal_layers.formats import convert
from emu_video.temporal_layers.reader import Weights
from emu_video.tests.comfyui.formats.unets import SD15, SDXL, relative
from emu_video.tests.comfyui.tiny import CONTEXT, FRAMES, LATENT, TinyConfig, checkpoint, sample, text, weights_hash
from emu_video.tests.temporal_layers.formats import public
from emu_video.tests.temporal_layers.formats.plain_unet import PlainUNet
from emu_video.tests.temporal_layers.formats.test_motion_adapter import merged

from nodes import KSampler  # pyright: ignore[reportAttributeAccessIssue]  (ComfyUI's, not the pack's)

NARROW = SD15 | {"context_dim": CONTEXT}


class FlatVAE:
    """A VAE that takes colour as latent, 8 times smaller."""

    def spacial_compression_encode(self):
        return 8

    def encode(self, images):
        return torch.nn.functional.pad(images.movedim(-1, 1)[..., ::8, ::8], (0, 0, 0, 0, 0, 1))


@pytest.fixture(autouse=True)
def narrow_bases(monkeypatch):
    """The narrow UNets of these tests count as the real ones."""
    for base in ("sd15", "sdxl"):
        wide = unet_backbone.BASES[base]
        narrow = wide._replace(model_channels=32, context_dim=CONTEXT, blocks=16 if base == "sd15" else 28)
        monkeypatch.setitem(unet_backbone.BASES, base, narrow)
    monkeypatch.setattr(TinyConfig, "model_type", lambda self, state_dict, prefix="": ModelType.EPS)
    monkeypatch.setattr(TinyConfig, "unet_extra_config", {"num_heads": 8, "num_head_channels": -1})


@pytest.fixture
def sd15():
    return checkpoint(**NARROW)


def injected(model, file, name="file"):
    return inject(model, *convert(Weights(name, file)), name)


@pytest.mark.parametrize(
    ("file", "prediction", "last_sigma"),
    [
        (public.animatediff(**public.V3), "EPS", 25.15),
        (public.animatediff(**public.V2), "EPS", 25.15),
        (public.pia(), "EPS", 25.15),
        (public.fancyvideo(), "ZeroSNRFlow", 1.0),
    ],
)
def test_schedule_of_the_family_on_the_clone_alone(sd15, file, prediction, last_sigma):
    before = sd15.get_model_object("model_sampling")
    sampling = injected(sd15, file).get_model_object("model_sampling")
    assert prediction in {kind.__name__ for kind in type(sampling).__mro__}
    assert sampling.sigma_max.item() == pytest.approx(last_sigma, abs=0.01)
    assert sd15.get_model_object("model_sampling") is before


def test_schedules_of_sdxl():
    sdxl = checkpoint(**SDXL | {"context_dim": CONTEXT})
    for file, last_sigma in ((public.hotshotxl(), 14.61), (public.animatediff(**public.SDXL_BETA), 39.6)):
        sampling = injected(sdxl, file).get_model_object("model_sampling")
        alphas = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.02**0.5, 1000, dtype=torch.float64) ** 2, 0)
        expected = ((1 - alphas[-1]) / alphas[-1]).sqrt().item() if last_sigma > 20 else last_sigma
        assert sampling.sigma_max.item() == pytest.approx(expected, abs=0.01)


def test_layers_of_another_base_are_refused(sd15):
    with pytest.raises(ValueError, match="hotshot contains temporal layers for sdxl, but the model is sd15"):
        injected(sd15, public.hotshotxl(), "hotshot")
    with pytest.raises(ValueError, match=r"wide has a module for input_blocks\.1\.1 \(transformer, 64 channels\)"):
        injected(sd15, public.animatediff(widths=(64, 64, 64, 64)), "wide")


def test_eps_layers_on_a_v_checkpoint_are_refused(sd15, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(TinyConfig, "model_type", lambda self, state_dict, prefix="": ModelType.V_PREDICTION)
        predicting_v = checkpoint(**NARROW)
    with pytest.raises(ValueError, match="adapter was trained on a checkpoint .* noise .eps., but this checkpoint"):
        injected(predicting_v, public.animatediff(), "adapter")
    video = injected(predicting_v, public.fancyvideo())
    assert isinstance(video.get_model_object("model_sampling"), ZeroSNRFlow)
    both = injected(injected(sd15, public.fancyvideo()), public.animatediff())  # the second replaces the first
    assert torch.equal(sample(both, steps=1), sample(injected(sd15, public.animatediff()), steps=1))


def test_frames_of_strength_zero_know_nothing_of_each_other(sd15):
    """Neither by attention nor by the group norms over clips of version 1."""
    video = with_strength(injected(sd15, public.animatediff(**public.V1)), 0.0, 1.0)
    noise = torch.randn((FRAMES, *LATENT), generator=torch.Generator().manual_seed(3))
    before = sample(video, noise=noise, steps=1)
    noise[1] += 1
    after = sample(video, noise=noise, steps=1)
    assert torch.equal(after[0], before[0]) and not torch.equal(after[1], before[1])
    plain = sd15.clone()
    plain.add_object_patch("model_sampling", video.get_model_object("model_sampling"))
    assert torch.equal(sample(plain, noise=noise, steps=1), after)


def test_more_frames_than_positions_are_refused(sd15):
    video = injected(sd15, public.animatediff(**public.V1))
    sample(video, frames=24, steps=1)
    with pytest.raises(ValueError, match="has 25 frames, but .* with 24 positions; make at most 24 frames"):
        sample(video, frames=25, steps=1)


def test_sampling_leaves_the_checkpoint_as_it_was(sd15):
    before, image = weights_hash(sd15), sample(sd15)
    for file in (public.animatediff(**public.V1), public.pia(), public.fancyvideo()):
        video = sample(injected(sd15, file))
        assert video.isfinite().all() and relative(video, image) > 0.01
        assert weights_hash(sd15) == before
    assert torch.equal(sample(sd15), image)


def flat_image(size: int = 64, seed: int = 8) -> torch.Tensor:
    return torch.rand(1, size, size, 3, generator=torch.Generator().manual_seed(seed))


def test_fancyvideo_equals_its_published_sampling(sd15):
    """DDIM on v with zero terminal SNR, first frame known, guidance between two texts: restated in float64 and alone.

    alpha and sigma from betas linear in t; x0 = alpha x - sigma v; x_next = alpha' x0 + sigma' (sigma x + alpha v).
    """
    file = public.fancyvideo()
    video = with_values(injected(sd15, file), {"fps": 8.0, "motion": 2.0})
    image, steps, cfg = flat_image(), 4, 3.0
    positive, known_only, _, empty = first_frame_conditioning(video, FlatVAE(), image, text(1), text(2), frames=FRAMES)
    noise = torch.randn((FRAMES, *LATENT), generator=torch.Generator().manual_seed(3))
    ours = sample(video, noise=noise, steps=steps, cfg=cfg, positive=positive, negative=known_only)

    latent = FlatVAE().encode(image) * 0.18215
    channels = torch.zeros(FRAMES, 5, *LATENT[1:])
    channels[0, :4], channels[0, 4] = latent[0], 1.0
    alphas = torch.cumprod(1 - torch.linspace(0.00085, 0.012, 1000, dtype=torch.float64), 0).sqrt()
    alphas = (alphas - alphas[-1]) * alphas[0] / (alphas[0] - alphas[-1])
    sigmas = (1 - alphas**2).sqrt()
    plain = PlainUNet(sd15.model.diffusion_model.state_dict(), file, lambda channels: 8, resnets_over_clip=False)
    x = noise.double()
    timesteps = [999, 749, 499, 249]
    for t, after in zip(timesteps, [*timesteps[1:], None], strict=True):
        inputs = torch.cat((x.float(), channels), dim=1)
        full, negative = (plain(inputs, t, text(seed)[0][0][0], fps=8.0, motion=2.0).double() for seed in (1, 2))
        v = negative + cfg * (full - negative)
        x0, eps = alphas[t] * x - sigmas[t] * v, sigmas[t] * x + alphas[t] * v
        x = x0 if after is None else alphas[after] * x0 + sigmas[after] * eps
    assert isinstance(video.get_model_object("model_sampling"), ZeroSNRFlow)
    assert torch.equal(empty["samples"], torch.zeros_like(empty["samples"]))
    assert relative(ours, x.float() / 0.18215) < 1e-3


@pytest.mark.parametrize("index", range(9))
def test_affinities_are_the_published_ones(index):
    # diffusers moves its older pipelines between modules.
    prepare = sys.modules[PIAPipeline.__module__].prepare_mask_coef_by_statistics
    preset = PRESETS[index]
    for frames in (16,) if preset in LOOPS else (4, 8, 16, 20):  # published loops return at 16 frames only
        ours = affinities(preset, frames)
        assert torch.allclose(ours, torch.tensor(prepare(frames, 0, index)[:frames]))


def test_pia_has_the_image_on_every_frame_and_unrounded_affinities(sd15):
    video, seen = injected(sd15, public.pia()), []
    image = flat_image()
    conds = affinity_conditioning(video, FlatVAE(), image, text(1), text(2), frames=FRAMES, motion="large motion")
    positive, negative, empty = conds
    assert empty["samples"].shape == (FRAMES, *LATENT)

    def look(apply_model, arguments):
        seen.append(arguments["c"]["c_concat"])
        return apply_model(arguments["input"], arguments["timestep"], **arguments["c"])

    video.set_model_unet_function_wrapper(look)
    sample(video, steps=1, positive=positive, negative=negative)
    (channels,) = seen
    assert channels.shape == (2 * FRAMES, 5, *LATENT[1:])
    assert torch.equal(channels[:, 0, 0, 0], torch.tensor([1.0, 0.8, 0.7, 0.7] * 2))
    assert torch.allclose(channels[:, 1:], FlatVAE().encode(image) * 0.18215)
    own = affinity_conditioning(
        video, FlatVAE(), image, text(1), text(2), frames=3, motion="large motion", own=[0.9, 0.5, 0.1]
    )
    assert torch.allclose(own[0][0][1]["noise_concat"][:, 0, 0, 0], torch.tensor([0.9, 0.5, 0.1]))
    with pytest.raises(ValueError, match="2 affinities for 3 frames"):
        affinity_conditioning(video, FlatVAE(), image, text(1), text(2), frames=3, motion="large motion", own=[1, 0])
    with pytest.raises(ValueError, match="at least 2 frames, got 1"):
        affinity_conditioning(video, FlatVAE(), image, text(1), text(2), frames=1, motion="large motion")
    with pytest.raises(ValueError, match='no motion preset "huge": use one of small motion'):
        affinities("huge", 4)
    with pytest.raises(ValueError, match=r"latent of one image, .* got \[2, 4, 8, 8\]"):
        concat_affinity(torch.zeros(2, *LATENT), affinities("small motion", 4))


@pytest.mark.parametrize("family", ["PIA", "FancyVideo"])
def test_a_second_pass_at_a_larger_size(sd15, family):
    """Conditionings made again at 96 pixels equal those of the scaled image, and a second KSampler runs with them."""
    video, image = injected(sd15, public.pia() if family == "PIA" else public.fancyvideo()), flat_image()

    def made(image):
        if family == "PIA":
            return affinity_conditioning(
                video, FlatVAE(), image, text(1), text(2), frames=FRAMES, motion="loop, large motion"
            )[:2]
        return first_frame_conditioning(video, FlatVAE(), image, text(1), text(2), frames=FRAMES)[:2]

    first = sample(video, positive=made(image)[0], negative=made(image)[1])
    larger = torch.nn.functional.interpolate(first, (12, 12))
    resized = conditionings_at_size(video, FlatVAE(), larger, *made(image))
    scaled = torch.nn.functional.interpolate(image.movedim(-1, 1), (96, 96), mode="bicubic").clamp(0, 1).movedim(1, -1)
    for one, other in zip(resized, made(scaled), strict=True):
        assert torch.equal(one[0][1]["noise_concat"], other[0][1]["noise_concat"])
    second = KSampler().sample(video, 0, 2, 2.0, "euler", "simple", resized[0], resized[1], {"samples": larger}, 0.5)[
        0
    ]["samples"]
    assert second.shape == (FRAMES, 4, 12, 12) and second.isfinite().all()


def test_a_conditioning_node_for_other_layers_is_refused(sd15):
    image = flat_image()
    pia, fancyvideo = injected(sd15, public.pia()), injected(sd15, public.fancyvideo())
    with pytest.raises(ValueError, match=r"\(PIA\) need another conditioning node: use Image and Affinity Cond"):
        first_frame_conditioning(pia, FlatVAE(), image, text(1), text(2), frames=FRAMES)
    with pytest.raises(
        ValueError, match=r"\(FancyVideo\) need another conditioning node: use First Frame Conditioning"
    ):
        affinity_conditioning(fancyvideo, FlatVAE(), image, text(1), text(2), frames=FRAMES, motion="small motion")
    plain = injected(sd15, public.animatediff())
    with pytest.raises(ValueError, match="read no known frames"):
        first_frame_conditioning(plain, FlatVAE(), image, text(1), text(2), frames=FRAMES)


def test_settings_are_the_clones_own(sd15):
    video = injected(sd15, public.fancyvideo())
    full = sample(video)
    weak, fast = with_strength(video, 0.3, 1.0), with_values(video, {"fps": 60.0, "motion": 8.0})
    with pytest.raises(ValueError, match=r"\(FancyVideo\) have no convolutions: leave convolution at 1"):
        with_strength(video, 1.0, 0.5)
    for changed in (weak, fast):
        assert relative(sample(changed), full) > 1e-3
        assert torch.equal(sample(video), full)
    assert torch.equal(sample(injected(fast, public.fancyvideo())), full)
    with pytest.raises(ValueError, match=r"\(AnimateDiff v3\) have no setting for frame rate"):
        with_values(injected(sd15, public.animatediff()), {"fps": 8.0})
    for setting in (lambda: with_strength(sd15, 1.0, 1.0), lambda: with_values(sd15, {}),
                    lambda: with_motion_lora(sd15, Weights("lora", public.motion_lora()), 1.0)):  # fmt: skip
        with pytest.raises(ValueError, match="has no temporal layers: connect"):
            setting()


def test_motion_loras_are_merged_and_come_off(sd15):
    file, first, second = public.animatediff(), public.motion_lora(seed=1), public.motion_lora(seed=2)
    video = injected(sd15, file)
    plain = sample(video)
    moved = with_motion_lora(with_motion_lora(video, Weights("a", first), 0.7), Weights("b", second), -0.4)
    expected = sample(injected(sd15, merged(merged(file, first, 0.7), second, -0.4)))
    for _ in range(2):
        assert relative(sample(moved), expected) < 1e-4
        assert torch.equal(sample(video), plain)
    assert relative(expected, plain) > 0.01
    comfy.model_management.unload_all_models()
    assert torch.equal(sample(video), plain)


def test_the_domain_adapter_of_v3_is_a_lora_for_comfyui(sd15):
    """ComfyUI's own Load LoRA finds every key, and the motion modules hang on the adapted image model."""
    adapter = public.domain_adapter(context=CONTEXT)
    adapted, _ = comfy.sd.load_lora_for_models(sd15, None, adapter, 0.8, 0.0)
    assert len(adapted.patches) == len(adapter) // 2
    unet = sd15.model.diffusion_model
    key = "up_blocks.1.attentions.2.transformer_blocks.0.attn2.processor.to_v_lora"
    name = "output_blocks.5.1.transformer_blocks.0.attn2.to_v"
    expected = unet.get_submodule(name).weight + 0.8 * adapter[f"{key}.up.weight"] @ adapter[f"{key}.down.weight"]
    with_adapter = adapted.patch_weight_to_device(f"diffusion_model.{name}.weight", return_weight=True)
    assert torch.allclose(with_adapter, expected, atol=1e-5)
    video = sample(injected(adapted, public.animatediff()))
    assert relative(video, sample(injected(sd15, public.animatediff()))) > 0.01
