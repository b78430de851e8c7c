"""Clips for super-resolution as latents: drawn large, and once more from a smaller version, as the node does it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from safetensors.torch import load_file
from torch import Tensor

from ...diffusion.resize import upsampled
from ..model.autoencoder import Autoencoder
from ..model.text_encoder import tokens_of
from ..recipe import LargeClips
from ..world import render_clips
from .clips import LatentClips, near_shapes, scenes_of
from .run import Run, plain, save_tensors

CHUNK = 128  # frames drawn at a time


@dataclass(frozen=True)
class LargeLatentClips(LatentClips):
    """Clips of one set. upsampled: latents of their smaller version, [n, T, C, h, w] float16."""

    upsampled: Tensor


def large_clips(run: Run, clips: LargeClips, echo: bool = True) -> LargeLatentClips:
    """Return the clips of a set from the run's folder. Missing clips are made and written first."""
    path = run.clips_path(clips)
    if not path.exists():
        save_tensors(path, vars(encode_large(run, clips, echo)), {"clips": plain(clips)})
    return LargeLatentClips(**load_file(path))


@torch.no_grad()
def encode_large(run: Run, clips: LargeClips, echo: bool = True) -> LargeLatentClips:
    autoencoder, scenes = run.autoencoder(), scenes_of(clips)
    parts: dict[str, list[Tensor]] = {"latents": [], "near": [], "upsampled": []}
    chunk = max(1, CHUNK // clips.frames)
    for start in range(0, clips.count, chunk):
        pictures, covered = render_clips(scenes[start : start + chunk], clips.size, run.device)
        images = pictures.flatten(0, 1).movedim(1, -1).float() / 255
        parts["latents"].append(encode(autoencoder, images).unflatten(0, pictures.shape[:2]))
        small = upsampled(images, clips.factor)
        parts["upsampled"].append(encode(autoencoder, small).unflatten(0, pictures.shape[:2]))
        parts["near"].append(near_shapes(covered).cpu())
        if echo:
            print(f"clips of seed {clips.seed}: {min(start + chunk, clips.count)} of {clips.count}", flush=True)
    tokens = tokens_of(scene.caption for scene in scenes)
    return LargeLatentClips(**{name: torch.cat(each) for name, each in parts.items()}, tokens=tokens)


def encode(autoencoder: Autoencoder, images: Tensor) -> Tensor:
    """Encode images [n, H, W, 3] in 0..1 to latents [n, C, h, w] float16."""
    flat = images.movedim(-1, 1).contiguous(memory_format=torch.channels_last)
    with torch.autocast(flat.device.type, torch.bfloat16):
        return torch.cat([autoencoder.encode(part) for part in flat.split(16)]).half().contiguous().cpu()
