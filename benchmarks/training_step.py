"""One training step of motion modules on SD1.5 or SDXL at full size: time and peak memory, beside diffusers.

    PYTHONPATH=<ComfyUI> python -m emu_video.benchmarks.training_step --sizes 128 256

Weights are random. A step is forward, backward and AdamW of one clip, with the MODEL that the trainer uses, and with
diffusers' UNetMotionModel on the same shapes; both freeze the image model. On a CPU each row is one step in a separate
process: its CPU time and the memory of this process. On a GPU each row is the median wall time of five steps, after
two that are not counted, and the allocated memory.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..training.log import memory

TOKENS = 77
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WARM_UP, STEPS = 2, 5
HEADER = """\
| network | pixels | precision | checkpointing | seconds | clips a second | peak, GiB |
|---|---|---|---|---|---|---|"""

Network = Callable[[Tensor, Tensor], Tensor]
"""(latents [1, T, C, h, w], timestep [1]) -> output of the same shape"""


def ours(base: str, dtype: torch.dtype, checkpointing: bool) -> tuple[nn.Module, Network]:
    """Return the temporal layers, and the trainer's own network."""
    import comfy.cli_args

    comfy.cli_args.args.cpu = not torch.cuda.is_available()
    import comfy.model_patcher

    from ..host.trainable_model import TrainableModel
    from .memory_estimate import UNETS, motion_modules

    comfy.cli_args.args.cpu = not torch.cuda.is_available()  # memory_estimate is for the CPU alone
    kind, config, _ = UNETS[base]
    settings = kind(config | {"dtype": dtype})
    settings.set_inference_dtype(dtype, None)
    device = torch.device(DEVICE)
    model = settings.get_model({}, device=device)
    fill(model.diffusion_model)
    layers = motion_modules(model.diffusion_model).to(device)
    fill(layers)
    patcher = comfy.model_patcher.ModelPatcher(model, device, torch.device("cpu"))
    network = TrainableModel(patcher, layers, dtype=dtype, checkpointing=checkpointing, compiled=False)
    text = {"cross_attn": torch.randn(TOKENS, config["context_dim"])}
    if "adm_in_channels" in config:
        text["pooled_output"] = torch.randn(1280)
    return layers, lambda noisy, t: network(noisy, t, None, [text])


def diffusers(base: str, dtype: torch.dtype, checkpointing: bool) -> tuple[nn.Module, Network]:
    """Return the motion modules of diffusers' UNetMotionModel for SD1.5, and the network."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.models.unets.unet_motion_model import MotionAdapter, UNetMotionModel

    if base != "SD1.5":
        raise ValueError(f"diffusers is measured on SD1.5 only, not on {base}.")
    with torch.device("meta"):
        image = UNet2DConditionModel(cross_attention_dim=768)
        unet: Any = UNetMotionModel.from_unet2d(image, MotionAdapter(motion_max_seq_length=32))
    unet.to_empty(device=DEVICE)
    fill(unet)
    unet.freeze_unet2d_params()
    trained = nn.ModuleList(m for name, m in unet.named_modules() if name.split(".")[-1] == "motion_modules")
    for name, parameter in unet.named_parameters():
        if "motion_modules" not in name:
            parameter.data = parameter.data.to(dtype)
    if checkpointing:
        unet.enable_gradient_checkpointing()
    text = torch.randn(1, TOKENS, 768, device=unet.device)

    def network(noisy: Tensor, t: Tensor) -> Tensor:
        context = text.repeat_interleave(noisy.shape[1], 0)
        return unet(noisy.transpose(1, 2).to(dtype), t, context.to(dtype)).sample.transpose(1, 2)

    return trained, network


NETWORKS = {"Emu Video": ours, "diffusers": diffusers}


def fill(module: nn.Module) -> None:
    """Fill weights in place with values of the usual size."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.1 if parameter.ndim < 2 else parameter[0].numel() ** -0.5)
        for buffer in module.buffers():
            buffer.zero_()


def measure(network: str, base: str, *, size: int, frames: int, dtype: torch.dtype, checkpointing: bool) -> dict:
    """Return seconds and peak memory of one step."""
    trained, run = NETWORKS[network](base, dtype, checkpointing)
    trained.requires_grad_(True).train()
    optimiser = torch.optim.AdamW(trained.parameters(), lr=1e-4)
    latents = torch.randn(1, frames, 4, size // 8, size // 8, device=DEVICE)
    taken = []
    for _ in range(1 if DEVICE == "cpu" else WARM_UP + STEPS):
        started = clock()
        with torch.autocast(DEVICE, torch.bfloat16, enabled=dtype != torch.float32):
            loss = (run(latents, torch.tensor([500], device=DEVICE)) - latents).square().mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        taken.append(clock() - started)
    return {"seconds": statistics.median(taken[-STEPS:]), "memory": memory()}


def clock() -> float:
    if DEVICE == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="SD1.5", choices=["SD1.5", "SD2.1", "SDXL"])
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256], help="pixels of a side")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--case", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        case = json.loads(given.case)
        print(json.dumps(measure(**case | {"dtype": getattr(torch, case["dtype"])})))
        return
    print(HEADER)
    for size, precision, checkpointing, network in itertools.product(
        given.sizes, given.precisions, (False, True), given.networks
    ):
        case = {"network": network, "base": given.base, "size": size, "frames": given.frames, "dtype": precision}
        row = (in_a_process if DEVICE == "cpu" else on_the_gpu)(case | {"checkpointing": checkpointing})
        result = f"{row['seconds']:.3f} | {1 / row['seconds']:.3f} | {row['memory']:.1f}" if row else "failed | |"
        print(f"| {network} | {size} | {precision} | {'yes' if checkpointing else 'no'} | {result} |", flush=True)


def in_a_process(case: dict[str, Any]) -> dict | None:
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, "--case", json.dumps(case)], capture_output=True, text=True
    )
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    print(done.stderr[-2000:], file=sys.stderr)
    return None


def on_the_gpu(case: dict[str, Any]) -> dict | None:
    """Return the figures of a case in this process, after everything of the case before it was freed."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    try:
        return measure(**case | {"dtype": getattr(torch, case["dtype"])})
    except (torch.OutOfMemoryError, ValueError) as error:
        print(error, file=sys.stderr)
        return None


if __name__ == "__main__":
    main()
