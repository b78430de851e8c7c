"""Overhead of temporal layers beyond their arithmetic: one video step against the same frames as separate images.

    PYTHONPATH=<ComfyUI> python -m emu_video.benchmarks.overhead

Each row compares a UNet with temporal layers on it to the plain UNet on the same batch of frames, both with random
weights: the ratio of times, the ratio of floating-point operations (torch.utils.flop_counter), their quotient (the
overhead above the arithmetic; 1.00 = none), and the peak of the activations' memory in each.

Time is this process's CPU time on one thread, the median of interleaved repeats, so that other programs on the machine
hardly affect it. Only ratios are meaningful.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.cli_args
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

comfy.cli_args.args.cpu = True
comfy.cli_args.args.use_pytorch_cross_attention = True  # as on GPUs; ComfyUI's own choice for CPUs is slower

import comfy.ops  # noqa: E402
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel  # noqa: E402

from ..host.pocket import UNET_CONFIG, PocketUNet  # noqa: E402
from ..temporal_layers.attach import attach, detach  # noqa: E402
from ..temporal_layers.backbones import find_anchors  # noqa: E402
from ..temporal_layers.layers import TemporalLayers  # noqa: E402
from .memory import PeakMemory  # noqa: E402
from .unets import SD15  # noqa: E402

FRAMES = 8
SIZE = 16  # latent height and width
CONDITIONING_CHANNELS = 5
UNETS = {"SD1.5": (UNetModel, SD15), "pocket": (PocketUNet, UNET_CONFIG)}

Step = Callable[[], Tensor]


@dataclass
class Row:
    """One line of the table. Ratios are values with temporal layers over values without them."""

    unet: str
    dtype: str
    layers: str
    seconds: float
    time: float
    operations: float
    plain_mib: float
    video_mib: float

    @property
    def overhead(self) -> float:
        return self.time / self.operations

    def __str__(self) -> str:
        return (
            f"| {self.unet} | {self.dtype} | {self.layers} | {self.seconds:.2f} | {self.time:.2f} "
            f"| {self.operations:.2f} | **{self.overhead:.2f}** | {self.plain_mib:.1f} | {self.video_mib:.1f} |"
        )


HEADER = """\
| UNet | dtype | temporal layers | plain step, s | time ratio | FLOP ratio | overhead | plain MiB | video MiB |
|---|---|---|---|---|---|---|---|---|"""


def compare(plain: Step, video: Step, repeats: int) -> dict[str, float]:
    """Return times, FLOP ratio and peak memory of two steps, run alternately `repeats` times."""
    operations, peaks = [], []
    for step in (plain, video):
        with FlopCounterMode(display=False) as counter:
            step()
        operations.append(counter.get_total_flops())
        with PeakMemory() as memory:
            step()
        peaks.append(memory.peak / 2**20)
    times: list[list[float]] = [[], []]
    for _ in range(repeats):
        for taken, step in zip(times, (plain, video), strict=True):
            start = time.process_time()
            step()
            taken.append(time.process_time() - start)
    return {
        "seconds": statistics.median(times[0]),
        "time": statistics.median(b / a for a, b in zip(*times, strict=True)),
        "operations": operations[1] / operations[0],
        "plain_mib": peaks[0],
        "video_mib": peaks[1],
    }


def randomise(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Fill weights with values of the usual size. Uninitialised memory may hold denormal numbers, which are slow."""
    noise = torch.randn(2**20)
    for parameter in module.parameters():
        scale = 0.1 if parameter.ndim < 2 else parameter[0].numel() ** -0.5
        copies = -(-parameter.numel() // noise.numel())
        values = (noise * scale).to(dtype).repeat(copies)[: parameter.numel()]
        parameter.data = values.reshape(parameter.shape).clone()
    for buffer in module.buffers():
        buffer.zero_()
    return module.to(dtype).eval()


def ours(name: str, dtype: torch.dtype, kinds: tuple[str, ...], repeats: int) -> dict[str, float]:
    """Measure this package's layers on ComfyUI's UNet. Conditioning is used if the layers contain convolutions."""
    kind, config = UNETS[name]
    unet = randomise(kind(**config, dtype=dtype, device="cpu", operations=comfy.ops.manual_cast), dtype)
    anchors = [anchor for anchor in find_anchors(unet) if anchor.kind in kinds]
    conditioning = CONDITIONING_CHANNELS if "conv" in kinds else 0
    layers = TemporalLayers(anchors, conditioning, operations=comfy.ops.manual_cast)
    randomise(layers, dtype)
    layers.frames = FRAMES
    x = torch.randn(FRAMES, 4 + conditioning, SIZE, SIZE, dtype=dtype)
    t = torch.full((FRAMES,), 500.0)
    conditions = {"context": torch.randn(FRAMES, 77, config["context_dim"], dtype=dtype)}
    if config.get("adm_in_channels"):
        conditions["y"] = torch.randn(FRAMES, config["adm_in_channels"], dtype=dtype)

    def plain() -> Tensor:
        return unet(x[:, :4], t, **conditions)

    def video() -> Tensor:
        attach(unet, layers, owner=layers)
        try:
            return unet(x, t, **conditions)
        finally:
            detach(unet, owner=layers)

    return compare(plain, video, repeats)


def diffusers(dtype: torch.dtype, repeats: int) -> dict[str, float]:
    """Measure diffusers' UNetMotionModel against its UNet2DConditionModel at SD1.5 width."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.models.unets.unet_motion_model import MotionAdapter, UNetMotionModel

    with torch.device("meta"):
        image = UNet2DConditionModel(cross_attention_dim=768)
        motion: Any = UNetMotionModel.from_unet2d(image, MotionAdapter(motion_max_seq_length=32))
    image, motion = (randomise(model.to_empty(device="cpu"), dtype) for model in (image, motion))
    x = torch.randn(FRAMES, 4, SIZE, SIZE, dtype=dtype)
    context = torch.randn(FRAMES, 77, 768, dtype=dtype)
    video = x.unflatten(0, (1, FRAMES)).transpose(1, 2)
    t = torch.tensor(500)
    return compare(
        lambda: image(x, t, context).sample,
        lambda: motion(video, t, context).sample,
        repeats,
    )


def rows(repeats: int):
    for dtype in (torch.bfloat16, torch.float32):
        name = str(dtype).removeprefix("torch.")
        for unet in UNETS:
            yield Row(unet, name, "all", **ours(unet, dtype, ("conv", "attention"), repeats))
        yield Row("SD1.5", name, "attention only", **ours("SD1.5", dtype, ("attention",), repeats))
        yield Row("SD1.5", name, "diffusers UNetMotionModel", **diffusers(dtype, repeats))


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(HEADER, flush=True)
    for row in rows(arguments.repeats):
        print(row, flush=True)


if __name__ == "__main__":
    main()
