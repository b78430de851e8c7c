"""run.py prepare and run.py train on an SD1.5 file of full size; set FULL_SIZE=1 to run it (11 GB, 2 minutes)."""

from __future__ import annotations

import os
from pathlib import Path

import comfy.ops
import pytest
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.sd1_clip import SDClipModel
from emu_video.benchmarks import unets
from emu_video.host import prepare_command, train_command
from emu_video.temporal_layers.files import load_layers
from emu_video.tests.training.prepare.videos import moving, write
from safetensors.torch import save_file

pytestmark = pytest.mark.skipif(not os.environ.get("FULL_SIZE"), reason="takes 11 GB of memory: set FULL_SIZE=1")
VAE = {
    "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128,
    "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
}  # fmt: skip
STEPS = {"optimiser": "adamw", "steps": 2, "batch": 2, "warmup": 1, "frames": 0, "save_every": 2, "sample_every": 0}


def checkpoint(path: Path) -> None:
    """Write random weights in half precision under the names of a published SD1.5 file."""
    with torch.device("meta"):
        parts = {
            "model.diffusion_model.": UNetModel(**unets.SD15, device="meta", operations=comfy.ops.disable_weight_init),
            "first_stage_model.": AutoencoderKL(ddconfig=VAE, embed_dim=4),
            "cond_stage_model.transformer.": SDClipModel(device="meta", dtype=torch.float16).transformer,
        }
    generator, weights = torch.Generator().manual_seed(0), {}
    for prefix, module in parts.items():
        for key, like in module.state_dict().items():
            made = torch.zeros(like.shape, dtype=torch.float16)
            if like.ndim > 1:
                made.normal_(std=like[0].numel() ** -0.5, generator=generator)
            elif key.endswith("weight"):
                made.fill_(1.0)
            weights[prefix + key] = made
    save_file(weights, path)


def test_from_videos_to_layers_at_full_size(pack, tmp_path):
    for number in range(2):
        write(tmp_path / "videos" / f"{number}.mp4", moving(8, seed=number))
        (tmp_path / "videos" / f"{number}.txt").write_text(f"clip {number}")
    file = tmp_path / "sd15.safetensors"
    checkpoint(file)
    data, run = tmp_path / "data", tmp_path / "run"
    prepare_command.main(
        [str(tmp_path / "videos"), "--checkpoint", str(file), "--size", "64x64", "--frames", "8", "--output", str(data)]
    )
    changes = [word for key, value in STEPS.items() for word in ("--set", f"{key}={value}")]
    train_command.main(["attention_sd15_8gb", str(data), "--checkpoint", str(file), "--output", str(run), *changes])
    weights, info = load_layers(run / "motion.safetensors")
    assert info.base == "sd15" and info.training["steps"] == 2
    assert sum(weight.numel() for weight in weights.values()) / 1e6 == pytest.approx(149, abs=1)
    last = [weight for key, weight in weights.items() if key.endswith(("to_out.weight", "mlp_out.weight"))]
    assert last and all(weight.any() for weight in last)  # they were zero
