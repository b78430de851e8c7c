"""Public files at their published size.

Anchors and shapes of every family against the real architectures, without weights; and, with FULL_SIZE=1 in the
environment (13 GB of memory, some minutes), SD1.5 with AnimateDiff v2 and random weights through ComfyUI's own loader
and sampler, against diffusers.
"""

from __future__ import annotations

import os
from typing import Any

import comfy.sd
import comfy.utils
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_animatediff_checkpoint_to_diffusers
from diffusers.models.unets.unet_motion_model import UNetMotionModel
from emu_video.benchmarks.unets import SD15
from emu_video.host.injection import inject
from emu_video.temporal_layers.files import check_fits
from emu_video.temporal_layers.formats import Options, convert
from emu_video.temporal_layers.formats.weights import Weights
from emu_video.tests.comfyui.formats.unets import load, relative
from emu_video.tests.comfyui.test_temporal_layers_on_unets import on_meta
from emu_video.tests.comfyui.tiny import FRAMES, LATENT, sample
from emu_video.tests.temporal_layers.formats import public

SD = (320, 640, 1280, 1280)
XL = (320, 640, 1280)


class Zeros(public.Random):
    """Zeros that take no memory."""

    def __call__(self, *shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.zeros(1).expand(shape)

    def norm(self, name: str, channels: int) -> dict[str, torch.Tensor]:
        return {f"{name}.weight": self(channels), f"{name}.bias": self(channels)}

    def linear(self, name: str, *shape: int, bias: bool = True) -> dict[str, torch.Tensor]:
        return {f"{name}.weight": self(*shape)} | ({f"{name}.bias": self(shape[0])} if bias else {})


FAMILIES = {  # base, file, millions of parameters
    "AnimateDiff v1": ("sd15", lambda: public.animatediff(SD, positions=24), 417.1),
    "AnimateDiff v2": ("sd15", lambda: public.animatediff(SD, middle=True), 453.2),
    "AnimateDiff v3": ("sd15", lambda: public.animatediff(SD), 417.1),
    "AnimateDiff SDXL beta": ("sdxl", lambda: public.animatediff(XL), 236.8),
    "HotshotXL": ("sdxl", lambda: public.hotshotxl(XL), 236.8),
    "PIA": ("sd15", lambda: public.pia(SD), 417.1),
    "FancyVideo": ("sd15", lambda: public.fancyvideo(SD), 454.0),
    "ModelScope": ("sd21", lambda: public.modelscope(SD), 545.3),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_anchors_are_on_the_real_architecture(family, monkeypatch):
    monkeypatch.setattr(public, "Random", Zeros)
    base, file, millions = FAMILIES[family]
    state_dict, info = convert(Weights("file", file()))
    assert (info.family, info.base) == (family, base)
    check_fits(on_meta(base), info, "file")
    assert sum(tensor.numel() for tensor in state_dict.values()) / 1e6 == pytest.approx(millions, abs=0.06)


def random_weights() -> dict[str, torch.Tensor]:
    weights, random = {}, public.Random(11)
    for key, like in on_meta("sd15").state_dict().items():
        weight = random(*like.shape)
        weights[key] = weight if like.ndim > 1 else 0.1 * weight + (1.0 if key.endswith("weight") else 0.0)
    return weights


@pytest.mark.skipif(not os.environ.get("FULL_SIZE"), reason="takes 13 GB of memory: set FULL_SIZE=1")
def test_sd15_with_animatediff_v2_equals_diffusers():
    image, motion = random_weights(), public.animatediff(SD, middle=True)
    reference: Any
    with torch.device("meta"):
        reference = UNetMotionModel(cross_attention_dim=768, num_attention_heads=8)
    names = comfy.utils.unet_to_diffusers(SD15)
    tables = {
        f"{key.removesuffix('norm.weight')}transformer_blocks.0.pos_embed.pe": public.sinusoids(32, len(tensor))
        for key, tensor in convert_animatediff_checkpoint_to_diffusers(motion).items()
        if key.endswith(".norm.weight")
    }
    theirs = {ours: image[key] for ours, key in names.items() if key in image}
    load(reference, theirs | convert_animatediff_checkpoint_to_diffusers(motion) | tables, assign=True)

    model = comfy.sd.load_diffusion_model_state_dict(dict(image), model_options={"dtype": torch.float32})
    assert model is not None
    as_diffusers = Options(transformer_norm="clip", resnet_norm="frame")
    video = inject(model, *convert(Weights("mm_sd_v15_v2.ckpt", motion), as_diffusers), "mm_sd_v15_v2.ckpt")
    seen = []

    def look(apply_model, arguments):
        x0 = apply_model(arguments["input"], arguments["timestep"], **arguments["c"])
        seen.append((arguments["input"], arguments["timestep"], arguments["c"]["c_crossattn"], x0))
        return x0

    video.set_model_unet_function_wrapper(look)
    texts = [[[torch.randn(1, 77, 768, generator=torch.Generator().manual_seed(seed)), {}]] for seed in (1, 2)]
    sample(video, steps=2, positive=texts[0], negative=texts[1])
    sampling = video.get_model_object("model_sampling")
    for x, sigma, context, x0 in seen:
        timesteps = sampling.timestep(sigma).float()
        noisy = (x / (sigma[0] ** 2 + 1) ** 0.5).unflatten(0, (-1, FRAMES)).transpose(1, 2)
        eps = reference(noisy, timesteps[::FRAMES], context).sample.transpose(1, 2).flatten(0, 1)
        assert x.shape == (2 * FRAMES, *LATENT)
        assert relative((x - x0) / sigma[0], eps) < 1e-4
