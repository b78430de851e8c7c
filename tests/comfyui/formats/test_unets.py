"""Whole UNets with public temporal layers: ComfyUI's with ours hung on, against diffusers' video UNets.

The weights go both ways: the public file is converted by the package for the one and loaded by diffusers for the other.
No layer is zero. Errors are relative to the greatest output.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_3d_condition import UNet3DConditionModel
from diffusers.models.unets.unet_motion_model import UNetMotionModel
from emu_video.temporal_layers.formats import Options, convert
from emu_video.temporal_layers.reader import Weights
from emu_video.tests.comfyui.formats.unets import (
    CONTEXT,
    FRAMES,
    as_video,
    comfy_unet,
    diffusers_unet,
    diffusers_weights,
    hang,
    inputs,
    load,
    relative,
)
from emu_video.tests.temporal_layers.formats import public
from emu_video.tests.temporal_layers.formats.test_motion_adapter import adapter

TOLERANCE = 1e-4
AS_DIFFUSERS = Options(transformer_norm="clip", resnet_norm="frame")
FILES = {
    "v1": ("sd15", public.animatediff(**public.V1), {"middle": False, "length": 24}),
    "v2": ("sd15", public.animatediff(**public.V2), {}),
    "v3": ("sd15", public.animatediff(**public.V3), {"middle": False}),
    "SDXL beta": ("sdxl", public.animatediff(**public.SDXL_BETA), {"middle": False, "widths": public.SDXL}),
    "PIA": ("sd15", public.pia(), {"middle": False, "conv_in": 9}),
}


def expected_of(base, unet, tensors, options, x, timesteps, context, added):
    image_unet = diffusers_unet(base, unet)
    reference: Any = UNetMotionModel.from_unet2d(image_unet, adapter(tensors, **options))
    reference.eval()
    if base == "sdxl":  # which from_unet2d leaves as it was initialised
        reference.add_embedding.load_state_dict(image_unet.add_embedding.state_dict())
    out = reference(as_video(x), timesteps[::FRAMES], context, added_cond_kwargs=added).sample
    return out.transpose(1, 2).flatten(0, 1)


@pytest.mark.parametrize("name", FILES)
def test_animatediff_and_pia_equal_diffusers(name):
    base, tensors, options = FILES[name]
    unet = comfy_unet(base)
    x, timesteps, context = inputs(conditioning_channels=5 if name == "PIA" else 0)
    kwargs, added = {}, None
    if base == "sdxl":
        ids, pooled = torch.tensor([[64.0, 64, 0, 8, 64, 96], [32, 64, 4, 0, 64, 64]]), torch.randn(2, 10)
        sines = diffusers_unet(base, unet).add_time_proj(ids.flatten()).reshape(2, -1)
        kwargs["y"] = torch.cat((pooled, sines), dim=1).repeat_interleave(FRAMES, dim=0)
        added = {"text_embeds": pooled, "time_ids": ids}
    expected = expected_of(base, unet, tensors, options, x, timesteps, context, added)
    plain = unet(x[:, :4], timesteps, context, **kwargs)

    layers = hang(unet, *convert(Weights("file", tensors), AS_DIFFUSERS))
    assert relative(unet(x, timesteps, context, **kwargs), expected) < TOLERANCE
    assert relative(plain, expected) > 0.1  # the layers do change the output
    layers.frames = 1
    assert torch.equal(unet(x, timesteps, context, **kwargs), plain)
    layers.frames = FRAMES
    hang(unet, *convert(Weights("file", tensors)))
    assert relative(unet(x, timesteps, context, **kwargs), expected) > 0.01  # as trained is another norm


def test_affinities_are_floats():
    """A mask of 0.8 is neither 1 nor 0 to the network."""
    unet = comfy_unet("sd15")
    x, timesteps, context = inputs(conditioning_channels=5)
    hang(unet, *convert(Weights("file", public.pia())))
    outs = []
    for affinity in (0.0, 0.8, 1.0):
        x[:, 4] = affinity
        outs.append(unet(x, timesteps, context))
    assert all(relative(outs[1], out) > 1e-3 for out in (outs[0], outs[2]))


@pytest.mark.parametrize("naming", ["diffusers", "original"])
def test_modelscope_equals_diffusers(naming):
    tensors = public.modelscope()
    unet = comfy_unet("sd21")
    reference = UNet3DConditionModel(block_out_channels=public.SD21, cross_attention_dim=CONTEXT)
    load(reference, diffusers_weights("sd21", unet) | tensors)
    x, timesteps, context = inputs()
    expected = reference(as_video(x), timesteps[::FRAMES], context[::FRAMES]).sample.transpose(1, 2).flatten(0, 1)
    plain = unet(x, timesteps, context)
    if naming == "original":
        tensors = public.modelscope_original(tensors)
    hang(unet, *convert(Weights("file", tensors)))
    assert relative(unet(x, timesteps, context), expected) < TOLERANCE
    assert relative(plain, expected) > 0.1
