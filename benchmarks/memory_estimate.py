"""ComfyUI's memory estimate of a step against the real peak, for plain UNets at full size and with temporal layers.

    PYTHONPATH=<ComfyUI> python -m emu_video.benchmarks.memory_estimate

Before sampling ComfyUI frees `memory_required` of the model for the activations of both prompts' frames, and counts the
temporal weights as an additional model. The peak is that of live tensors (benchmarks.memory) while the UNet runs on
torch's fake tensors, which have sizes and no values: nothing is computed, so any size can be measured on any machine.
Float32; ComfyUI's estimate for half precision is half of it, as are the activations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import comfy.cli_args
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

comfy.cli_args.args.cpu = True

import comfy.model_management  # noqa: E402
import comfy.ops  # noqa: E402
import comfy.supported_models  # noqa: E402
from comfy.ldm.modules.attention import attention_pytorch  # noqa: E402
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel  # noqa: E402

from ..temporal_layers.attach import attach, detach  # noqa: E402
from ..temporal_layers.backbones import Anchor, find_anchors  # noqa: E402
from ..temporal_layers.backbones.unet import blocks, last_module, resnet_norms  # noqa: E402
from ..temporal_layers.formats.modelscope import options_of, places  # noqa: E402
from ..temporal_layers.layers import TemporalLayers  # noqa: E402
from .memory import PeakMemory  # noqa: E402
from .unets import SD15, SD21, SDXL  # noqa: E402

FRAMES = 16
PROMPTS = 2
UNETS = {
    "SD1.5": (comfy.supported_models.SD15, SD15, 64),
    "SD2.1": (comfy.supported_models.SD20, SD21, 64),
    "SDXL": (comfy.supported_models.SDXL, SDXL, 128),
}
"""ComfyUI's class, the UNet, height and width of its latents"""


def ours(unet: Any) -> TemporalLayers:
    return TemporalLayers(find_anchors(unet), 5, comfy.ops.disable_weight_init)


def motion_modules(unet: Any, over_clip: bool = False) -> TemporalLayers:
    """Return AnimateDiff's motion modules. over_clip: with the group norms of HotshotXL and PIA."""
    widths = [multiple * unet.model_channels for multiple in unet.channel_mult]
    levels = len(widths)
    anchors = [
        Anchor(last_module(name, level, levels), "transformer", widths[level])
        for _, _, name, level in blocks(levels, middle=levels == 4)
    ]
    if over_clip:
        anchors += [Anchor(name, "clip_norm", channels) for name, channels in resnet_norms(widths)]
    modules = {"transformer": {"heads": 8, "positions": 32}}
    return TemporalLayers(anchors, 0, comfy.ops.disable_weight_init, modules)


def motion_modules_over_clips(unet: Any) -> TemporalLayers:
    return motion_modules(unet, over_clip=True)


def modelscope(unet: Any) -> TemporalLayers:
    """Return ModelScope's layers: stacks of four convolutions, transformers, and one transformer at the start."""
    anchors, modules = [], {}
    for place in places():
        module = unet.get_submodule(place.anchor)
        channels = module.in_channels if place.kind == "transformer" else module.out_channels
        anchors.append(Anchor(place.anchor, place.kind, channels))
        modules[place.kind] = options_of(place.kind)
    return TemporalLayers(anchors, 0, comfy.ops.disable_weight_init, modules)


LAYERS: dict[str, Callable[[Any], TemporalLayers]] = {
    "Emu Video's": ours,
    "motion modules": motion_modules,
    "motion modules, norms over clips": motion_modules_over_clips,
    "ModelScope's": modelscope,
}
MOTION_MODULES = ["Emu Video's", "motion modules", "motion modules, norms over clips"]
FAMILIES = {"SD1.5": MOTION_MODULES, "SD2.1": ["Emu Video's", "ModelScope's"], "SDXL": MOTION_MODULES}


@dataclass
class Row:
    """Bytes of activations: ComfyUI's estimate, the plain UNet's peak, and the peak with temporal layers."""

    unet: str
    layers: str
    estimate: float
    plain: int
    video: int

    def __str__(self) -> str:
        gib = " | ".join(f"{size / 2**30:.2f}" for size in (self.estimate, self.plain, self.video))
        return (
            f"| {self.unet} | {self.layers} | {gib} | {self.estimate / self.plain:.2f} "
            f"| **{self.estimate / self.video:.2f}** |"
        )


HEADER = """\
| UNet | temporal layers | estimate, GiB | plain peak | peak with layers | estimate / plain | estimate / with layers |
|---|---|---|---|---|---|---|"""


def measure(name: str) -> list[Row]:
    kind, config, size = UNETS[name]
    shape = [PROMPTS * FRAMES, 4, size, size]
    model: Any = kind(config | {"disable_unet_model_creation": True}).get_model({}, device=torch.device("cpu"))
    rows = []
    with FakeTensorMode(), torch.inference_mode():
        unet: Any = UNetModel(**config, dtype=torch.float32, device="cpu", operations=comfy.ops.disable_weight_init)
        model.diffusion_model = unet
        with mock.patch.object(comfy.model_management, "pytorch_attention_flash_attention", lambda: True):
            estimate = model.memory_required(shape)
        inputs = {"context": torch.empty(shape[0], 77, config["context_dim"])}
        if config.get("adm_in_channels"):
            inputs["y"] = torch.empty(shape[0], config["adm_in_channels"])
        plain = peak(unet, torch.empty(shape), inputs)
        for family in FAMILIES[name]:
            layers = LAYERS[family](unet)
            layers.frames = FRAMES
            x = torch.empty(shape[0], 4 + layers.conditioning_channels, size, size)
            attach(unet, layers, owner=layers)
            video = peak(unet, x, inputs)
            detach(unet, owner=layers)
            rows.append(Row(name, family, estimate, plain, video))
    return rows


def peak(unet: Any, x: Tensor, inputs: dict[str, Tensor]) -> int:
    """Return the peak of one call, with the attention that ComfyUI uses on GPUs."""
    options = {"optimized_attention_override": lambda _, *args, **kwargs: attention_pytorch(*args, **kwargs)}
    with PeakMemory() as memory:
        unet(x, torch.empty(len(x)), transformer_options=options, **inputs)
    return memory.peak


def main() -> None:
    print(HEADER, flush=True)
    for name in UNETS:
        for row in measure(name):
            print(row, flush=True)


if __name__ == "__main__":
    main()
