"""Public temporal layers as their official code runs them, through a MODEL of ComfyUI with our injection.

diffusers departs from it in the group norms, and has no class for HotshotXL and FancyVideo; the reference is the plain
restatement of tests/temporal_layers/formats/plain_unet.py.
"""

from __future__ import annotations

import pytest
import torch
from emu_video.temporal_layers.formats import Options, convert
from emu_video.temporal_layers.reader import Weights
from emu_video.tests.comfyui.formats.unets import FRAMES, SDXL, comfy_unet, hang, inputs, relative
from emu_video.tests.temporal_layers.formats import public
from emu_video.tests.temporal_layers.formats.plain_unet import PlainUNet

TOLERANCE = 1e-4
HOTSHOT = {
    key.replace("temporal_attentions.0", "motion_modules.0.temporal_transformer")
    .replace("temporal_attentions.1", "motion_modules.1.temporal_transformer")
    .replace("temporal_attentions.2", "motion_modules.2.temporal_transformer"): tensor
    for key, tensor in public.hotshotxl().items()
}
# base, file, the same in AnimateDiff's naming, whether its residual blocks have norms over clips
FILES = {
    "AnimateDiff v1": ("sd15", public.animatediff(**public.V1), None, True),
    "AnimateDiff v2": ("sd15", public.animatediff(**public.V2), None, False),
    "AnimateDiff v3": ("sd15", public.animatediff(**public.V3), None, False),
    "AnimateDiff SDXL beta": ("sdxl", public.animatediff(**public.SDXL_BETA), None, False),
    "HotshotXL": ("sdxl", public.hotshotxl(), HOTSHOT, True),
    "PIA": ("sd15", public.pia(), None, True),
    "FancyVideo": ("sd15", public.fancyvideo(), None, False),
}


def heads_of(base: str):
    return (lambda channels: 8) if base == "sd15" else (lambda channels: channels // 32)


def expected_of(plain: PlainUNet, x, timesteps, context, y=None, **values):
    clips = range(0, len(x), FRAMES)
    return torch.cat([
        plain(x[i : i + FRAMES], timesteps[i].item(), context[i], None if y is None else y[i], **values) for i in clips
    ])  # fmt: skip


@pytest.mark.parametrize("family", FILES)
def test_layers_run_as_trained(family):
    base, file, named, over_clip = FILES[family]
    unet = comfy_unet(base)
    state_dict, info = convert(Weights("file", file))
    assert info.family == family
    x, timesteps, context = inputs(conditioning_channels=info.conditioning_channels)
    y = torch.randn(2, SDXL["adm_in_channels"]).repeat_interleave(FRAMES, dim=0) if base == "sdxl" else None
    values = {"fps": 8.0, "motion": 2.0} if family == "FancyVideo" else {}
    plain = PlainUNet(unet.state_dict(), named or file, heads_of(base), over_clip)
    expected = expected_of(plain, x, timesteps, context, y, **values)

    layers = hang(unet, state_dict, info)
    layers.set_values(values)
    out = unet(x, timesteps, context, y=y)
    assert relative(out, expected) < TOLERANCE
    other = "frame" if over_clip else "clip"
    hang(unet, *convert(Weights("file", file), Options(resnet_norm=other))).set_values(values)
    assert relative(unet(x, timesteps, context, y=y), expected) > 0.01


def test_fancyvideo_image_step_is_the_image_model():
    """No image, mask 0, one frame: the layers and embeddings are out of the way, and no channel is read."""
    unet = comfy_unet("sd15")
    x, timesteps, context = inputs(conditioning_channels=5)
    x[:, 4:] = 0
    image = PlainUNet(unet.state_dict(), {}, heads_of("sd15"), resnets_over_clip=False)
    expected = expected_of(image, x[:, :4], timesteps, context)
    alone = unet(x[:, :4], timesteps, context)
    layers = hang(unet, *convert(Weights("file", public.fancyvideo())))
    layers.set_values({"fps": 25.0})
    layers.frames = 1
    assert torch.equal(unet(x, timesteps, context), alone)
    assert relative(alone, expected) < TOLERANCE


def test_fancyvideo_values_are_those_of_its_configurations_or_given():
    unet = comfy_unet("sd15")
    x, timesteps, context = inputs(conditioning_channels=5)
    file = public.fancyvideo()
    layers = hang(unet, *convert(Weights("file", file)))
    plain = PlainUNet(unet.state_dict(), file, heads_of("sd15"), resnets_over_clip=False)
    out = unet(x, timesteps, context)
    assert relative(out, expected_of(plain, x, timesteps, context, fps=25.0, motion=3.0)) < TOLERANCE
    layers.set_values({})
    outs = [unet(x, timesteps, context)]
    layers.set_values({"motion": 2.0})
    outs.append(unet(x, timesteps, context))
    assert relative(outs[0], expected_of(plain, x, timesteps, context)) < TOLERANCE
    assert relative(outs[1], expected_of(plain, x, timesteps, context, motion=2.0)) < TOLERANCE
    assert relative(*outs) > 1e-3


def test_strength_goes_from_the_image_model_to_the_layers():
    unet = comfy_unet("sd21")
    x, timesteps, context = inputs()
    alone = unet(x, timesteps, context)
    layers = hang(unet, *convert(Weights("file", public.modelscope())))
    full = unet(x, timesteps, context)
    kinds = {anchor.kind for anchor in layers.anchors}
    layers.strength = dict.fromkeys(kinds, 0.0)
    assert relative(unet(x, timesteps, context), alone) < TOLERANCE
    layers.strength = {"conv_stack": 0.0}
    without_convolutions = unet(x, timesteps, context)
    assert relative(without_convolutions, full) > 0.01 and relative(without_convolutions, alone) > 0.01
    layers.strength = dict.fromkeys(kinds, 1.0)
    assert torch.equal(unet(x, timesteps, context), full)
