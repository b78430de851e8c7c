"""Writes what was trained as files that users load: the checkpoint and its temporal layers, in half precision."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ...temporal_layers.backbones import find_anchors
from ...temporal_layers.files import save_layers
from ...temporal_layers.info import LayersInfo
from ...temporal_layers.noise import Discrete
from ...training.checkpoint import written_whole
from ..model.checkpoint import DENOISER, SIGNATURE
from ..model.text_encoder import Vocabulary
from ..model.unet import UNet
from ..shipped import CHECKPOINT, INTERPOLATION_LAYERS, VIDEO_LAYERS
from ..world import FINE_TIMES, FPS, FRAMES, TIMES, render_clips, sample_clips
from .latents import load_autoencoder


@torch.no_grad()
def latent_colours(folder: Path) -> Tensor:
    """[5, 3]: the linear map, and below it the bias, from latents to RGB in -1..1 that ComfyUI's previews use."""
    pictures, _ = render_clips(sample_clips(seed=21, count=64, times=TIMES[:1]))
    pictures = pictures[:, 0].float() / 255
    latents = load_autoencoder(folder).encode(pictures)
    small = torch.nn.functional.avg_pool2d(pictures, 8) * 2 - 1
    inputs, targets = latents.movedim(1, -1).reshape(-1, 4), small.movedim(1, -1).reshape(-1, 3)
    return torch.linalg.lstsq(torch.cat([inputs, torch.ones(len(inputs), 1)], 1), targets).solution


def export_checkpoint(folder: Path, path: Path = CHECKPOINT) -> None:
    """The image model: UNet, text encoder with its vocabulary, autoencoder."""
    image = torch.load(folder / "image_average.pt", weights_only=True)
    tensors = {}
    for key, tensor in image.items():
        part, _, rest = key.partition(".")
        tensors[DENOISER[part] + rest] = tensor.half()
    for key, tensor in load_autoencoder(folder).state_dict().items():
        tensors[f"first_stage_model.{key}"] = tensor.half()
    tensors["first_stage_model.vae_scale"] = torch.tensor(1.0)
    tensors["first_stage_model.vae_shift"] = torch.tensor(0.0)
    tensors[f"model.diffusion_model.{SIGNATURE}"] = latent_colours(folder)
    tensors["cond_stage_model.vocabulary"] = Vocabulary().to_tensor()
    with written_whole(path) as temporary:
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, temporary)


def export_layers(
    folder: Path, role: str, frames: int, fps: float, data: str, path: Path, noise_told: bool = False
) -> None:
    """The averaged layers that the stage `role` left in `folder`; data: what they learned from."""
    weights = torch.load(folder / f"{role}_average.pt", weights_only=True)
    info = LayersInfo(
        base="pocket",
        role=role,
        anchors=find_anchors(UNet()),
        frames=frames,
        fps=fps,
        conditioning_channels=5,
        noise=Discrete(prediction="v", zero_terminal_snr=True),
        training={"iterations": torch.load(folder / f"{role}.pt", weights_only=True)["step"], "data": data},
        noise_told=noise_told,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_layers(path, {key: tensor.half() for key, tensor in weights.items()}, info)


def export_video_layers(folder: Path, path: Path = VIDEO_LAYERS) -> None:
    export_layers(folder, "video", FRAMES, FPS, "procedural world, 7000 clips of 8 frames", path)


def export_interpolation_layers(folder: Path, path: Path = INTERPOLATION_LAYERS) -> None:
    data = "procedural world, 1800 clips of 37 frames, 8 of them given"
    export_layers(folder, "interpolation", len(FINE_TIMES), 4 * FPS, data, path, noise_told=True)
