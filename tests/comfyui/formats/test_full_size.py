"""Public files at their published size.

Anchors and shapes of every family against the real architectures, without weights; and, with FULL_SIZE=1 in the
environment (12 GB of memory, four minutes), SD1.5, SDXL and SD2.1 with random weights through ComfyUI's own loader and
sampler: what goes into the UNet there and comes out, against diffusers and against a plain restatement.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import comfy.sd
import comfy.utils
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_animatediff_checkpoint_to_diffusers
from diffusers.models.unets.unet_3d_condition import UNet3DConditionModel
from diffusers.models.unets.unet_motion_model import UNetMotionModel
from emu_video.benchmarks import unets
from emu_video.host.injection import inject
from emu_video.temporal_layers.files import check_fits
from emu_video.temporal_layers.formats import Options, convert
from emu_video.temporal_layers.reader import Weights
from emu_video.tests.comfyui.formats.test_official import TOLERANCE, expected_of, heads_of
from emu_video.tests.comfyui.formats.unets import FRAMES, as_video, load, relative
from emu_video.tests.comfyui.stock import random_weights
from emu_video.tests.comfyui.test_temporal_layers_on_unets import on_meta
from emu_video.tests.comfyui.tiny import LATENT, first_frame_known, sample
from emu_video.tests.temporal_layers.formats import public
from emu_video.tests.temporal_layers.formats.plain_unet import PlainUNet

CONFIGS = {"sd15": unets.SD15, "sd21": unets.SD21, "sdxl": unets.SDXL}

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


Tensors = dict[str, torch.Tensor]


class Call(NamedTuple):
    """One of the UNet: frames of all videos after each other, and what came out."""

    x: torch.Tensor
    timesteps: torch.Tensor
    context: torch.Tensor
    y: torch.Tensor | None
    out: torch.Tensor


Expected = Callable[[Call], torch.Tensor]
SIZE = 8.0 * LATENT[1]  # px, what ComfyUI tells SDXL of the picture where a prompt says nothing


def diffusers_weights(base: str, image: Tensors) -> Tensors:
    names = comfy.utils.unet_to_diffusers(CONFIGS[base])
    return {theirs: image[ours] for theirs, ours in names.items() if ours in image}


def by_diffusers(reference: Any, weights: Tensors) -> Callable[..., torch.Tensor]:
    load(reference, weights, assign=True)

    def run(call: Call, context: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        out = reference(as_video(call.x), call.timesteps[::FRAMES], context, **kwargs).sample
        return out.transpose(1, 2).flatten(0, 1)

    return run


def with_motion(base: str, image: Tensors, file: Tensors, **config: Any) -> Callable[..., torch.Tensor]:
    """AnimateDiff's layers in diffusers' class."""
    motion = convert_animatediff_checkpoint_to_diffusers(file)
    tables = {
        f"{key.removesuffix('norm.weight')}transformer_blocks.0.pos_embed.pe": public.sinusoids(32, len(tensor))
        for key, tensor in motion.items()
        if key.endswith(".norm.weight")
    }
    with torch.device("meta"):
        reference = UNetMotionModel(cross_attention_dim=CONFIGS[base]["context_dim"], **config)
    return by_diffusers(reference, diffusers_weights(base, image) | motion | tables)


def animatediff_v2(image: Tensors, file: Tensors) -> Expected:
    run = with_motion("sd15", image, file, num_attention_heads=8)
    return lambda call: run(call, call.context)


def animatediff_sdxl(image: Tensors, file: Tensors) -> Expected:
    run = with_motion(
        "sdxl", image, file,
        block_out_channels=XL,
        down_block_types=("DownBlockMotion", "CrossAttnDownBlockMotion", "CrossAttnDownBlockMotion"),
        up_block_types=("CrossAttnUpBlockMotion", "CrossAttnUpBlockMotion", "UpBlockMotion"),
        transformer_layers_per_block=(1, 2, 10),
        num_attention_heads=(5, 10, 20),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
        use_motion_mid_block=False,
    )  # fmt: skip

    def expected(call: Call) -> torch.Tensor:
        assert call.y is not None
        pooled = call.y[::FRAMES, :1280]
        sizes = torch.tensor([SIZE, SIZE, 0, 0, SIZE, SIZE]).expand(len(pooled), -1)
        return run(call, call.context, added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes})

    return expected


def modelscope(image: Tensors, file: Tensors) -> Expected:
    with torch.device("meta"):
        reference = UNet3DConditionModel(cross_attention_dim=1024)
    run = by_diffusers(reference, diffusers_weights("sd21", image) | file)
    return lambda call: run(call, call.context[::FRAMES])


def fancyvideo(image: Tensors, file: Tensors) -> Expected:
    plain = PlainUNet(image, file, heads_of("sd15"), resnets_over_clip=False)
    return lambda call: expected_of(plain, call.x, call.timesteps, call.context, fps=25.0, motion=3.0)


AS_DIFFUSERS = Options(transformer_norm="clip", resnet_norm="frame")
PARITY = {  # base, file, options of its loading, what it is compared with
    "AnimateDiff v2": ("sd15", lambda: public.animatediff(SD, middle=True), AS_DIFFUSERS, animatediff_v2),
    "AnimateDiff SDXL beta": ("sdxl", lambda: public.animatediff(XL), AS_DIFFUSERS, animatediff_sdxl),
    "ModelScope": ("sd21", lambda: public.modelscope(SD), Options(), modelscope),
    "FancyVideo": ("sd15", lambda: public.fancyvideo(SD), Options(), fancyvideo),
}


def calls_of(model: Any, context_dim: int, conditioning_channels: int) -> list[Call]:
    """Of two steps with guidance."""
    calls: list[Call] = []

    def look(_, args, kwargs, out):
        calls.append(Call(args[0], args[1], kwargs["context"], kwargs.get("y"), out))

    known = {"noise_concat": first_frame_known(FRAMES)} if conditioning_channels else {}
    texts = []
    for seed in (1, 2):
        random = torch.Generator().manual_seed(seed)
        pooled = {"pooled_output": torch.randn(1, 1280, generator=random)}
        texts.append([[torch.randn(1, 77, context_dim, generator=random), pooled | known]])
    with model.model.diffusion_model.register_forward_hook(look, with_kwargs=True):
        sample(model, FRAMES, positive=texts[0], negative=texts[1])
    return calls


@pytest.mark.skipif(not os.environ.get("FULL_SIZE"), reason="takes 12 GB of memory: set FULL_SIZE=1")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("family", PARITY)
def test_whole_unet_of_the_real_size(family):
    base, file, options, reference = PARITY[family]
    image, tensors = random_weights(on_meta(base)), file()
    model = comfy.sd.load_diffusion_model_state_dict(dict(image), model_options={"dtype": torch.float32})
    assert model is not None
    state_dict, info = convert(Weights("file", dict(tensors)), options)
    video = inject(model, state_dict, info, "file")
    calls = calls_of(video, CONFIGS[base]["context_dim"], info.conditioning_channels)
    assert len(calls) == 2 and all(len(call.x) == 2 * FRAMES for call in calls)
    expected = reference(image, tensors)
    assert max(relative(call.out, expected(call)) for call in calls) < TOLERANCE
