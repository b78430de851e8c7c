"""Clips of the world as latents: drawn and encoded once for a run, then read from its folder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from ..model.text_encoder import pad_tokens, tokens_of
from ..recipe import ClipSet
from ..world import Clip, first_times, render_clips, sample_clips
from .run import Run, plain, save_tensors

CHUNK = 1024  # frames drawn at a time
ENCODED = 16  # frames encoded at a time: their features stay in the processor's cache


@dataclass(frozen=True)
class LatentClips:
    """Clips of one set.

    latents: [n, T, C, h, w] float16. near: [n, T, h, w] bool, True close to a shape. tokens: [n, 32] int64.
    """

    latents: Tensor
    near: Tensor
    tokens: Tensor

    def __len__(self) -> int:
        return len(self.latents)

    def to(self, device: torch.device) -> LatentClips:
        return LatentClips(*(each.to(device) for each in (self.latents, self.near, self.tokens)))


def latent_clips(run: Run, clips: ClipSet, echo: bool = True) -> LatentClips:
    """Return the clips of a set from the run's folder. Missing clips are made and written first."""
    path = run.clips_path(clips)
    if not path.exists():
        made = encode_clips(run, clips, echo)
        save_tensors(path, vars(made), {"clips": plain(clips)})
    return LatentClips(**load_file(path))


@torch.no_grad()
def encode_clips(run: Run, clips: ClipSet, echo: bool = True) -> LatentClips:
    autoencoder, scenes = run.autoencoder(), scenes_of(clips)
    latents, near = [], []
    chunk = max(1, CHUNK // clips.frames)
    for start in range(0, clips.count, chunk):
        pictures, covered = render_clips(scenes[start : start + chunk], device=run.device)
        flat = pictures.flatten(0, 1).float().div_(255).contiguous(memory_format=torch.channels_last)
        with torch.autocast(run.device.type, torch.bfloat16):
            encoded = torch.cat([autoencoder.encode(part) for part in flat.split(ENCODED)])
        latents.append(encoded.float().half().unflatten(0, pictures.shape[:2]).contiguous().cpu())
        near.append(near_shapes(covered).cpu())
        if echo:
            print(f"clips of seed {clips.seed}: {min(start + chunk, clips.count)} of {clips.count}", flush=True)
    return LatentClips(torch.cat(latents), torch.cat(near), tokens_of(scene.caption for scene in scenes))


def scenes_of(clips: ClipSet) -> list[Clip]:
    """Return the scenes of a set at its times."""
    scenes = sample_clips(clips.seed, clips.count, np.array(clips.times), clips.scenes)
    return [first_times(scene, clips.frames) for scene in scenes]


def near_shapes(covered: Tensor) -> Tensor:
    """Return which latents are close to a shape, bool [n, T, h, w], from the coverage [n, T, H, W] of its pixels."""
    grown = F.max_pool2d(covered.flatten(0, 1)[:, None], 16, 8, 4) > 0.05
    return grown[:, 0].unflatten(0, covered.shape[:2])


def draw_pictures(
    sets: list[tuple[LatentClips, int, bool]], generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """Draw a batch of single frames from several sets.

    Args:
        sets: for each set its clips, the number of frames to draw, and whether they keep their captions.
        generator: on the clips' device.

    Returns:
        Latents [n, C, h, w], which latents are near a shape [n, h, w], tokens [n, 32], and the drawn indices of clips
        and frames in each set.
    """
    device = generator.device
    empty = torch.tensor(pad_tokens([]), device=device)
    latents, near, tokens, drawn = [], [], [], []
    for clips, count, has_captions in sets:
        index = torch.randint(0, len(clips), (count,), generator=generator, device=device)
        frame = torch.randint(0, clips.latents.shape[1], (count,), generator=generator, device=device)
        latents.append(clips.latents[index, frame].float())
        near.append(clips.near[index, frame])
        tokens.append(clips.tokens[index] if has_captions else empty.expand(count, -1))
        drawn.append((index, frame))
    return torch.cat(latents), torch.cat(near), torch.cat(tokens), drawn


def step_generator(seed: int, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the random generator of one training step, which depends only on (seed, step)."""
    return torch.Generator(device).manual_seed(seed * 1_000_003 + step)
