"""The training sets as latents: the world is drawn and encoded once, then read from memory."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from ...training.checkpoint import load_checkpoint, save_checkpoint
from ..model.autoencoder import Autoencoder
from ..model.text_encoder import Vocabulary, pad_tokens
from ..shipped import CHECKPOINT
from ..world import FRAMES, TIMES, render_clips, sample_clips
from ..world.vocabulary import MOTIONS

CHUNK = 128


class LatentSet:
    """latents [n, frames, 4, 16, 16] float16; near [n, frames, 16, 16] bool, close to a shape; tokens [n, 32] int64."""

    def __init__(self, latents: Tensor, near: Tensor, tokens: Tensor):
        self.latents, self.near, self.tokens = latents, near, tokens

    def __len__(self) -> int:
        return len(self.latents)

    def batch(self, generator: torch.Generator, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """A random batch: latents and loss weights (5 near a shape, 1 elsewhere) as float32, tokens."""
        index = torch.randint(0, len(self), (size,), generator=generator)
        return self.latents[index].float(), 1 + 4 * self.near[index].float(), self.tokens[index]


def joined(*sets: LatentSet) -> LatentSet:
    return LatentSet(*(torch.cat([getattr(s, name) for s in sets]) for name in ("latents", "near", "tokens")))


def load_autoencoder(folder: Path) -> Autoencoder:
    """The one in `folder`, or the shipped one where there is none."""
    model, path, prefix = Autoencoder(), folder / "autoencoder.pt", "first_stage_model."
    if path.exists():
        weights = torch.load(path, weights_only=True)["model"]
    else:
        shipped = {k.removeprefix(prefix): v.float() for k, v in load_file(CHECKPOINT).items() if k.startswith(prefix)}
        weights = {key: shipped[key] for key in model.state_dict()}
    model.load_state_dict(weights)
    return model.to(memory_format=torch.channels_last).eval().requires_grad_(False)  # pyright: ignore[reportCallIssue]


@torch.no_grad()
def latent_set(
    folder: Path,
    name: str,
    seed: int,
    count: int,
    frames: int = FRAMES,
    moving: bool = True,
    motions: tuple[str, ...] = MOTIONS,
    times: np.ndarray = TIMES,
) -> LatentSet:
    """`count` clips of the world as latents, read from `folder`/`name`.pt or made and written there.

    Only the first `frames` of each clip's `times` are drawn; with 1, a picture that its caption leaves room to move.
    """
    path = folder / f"{name}.pt"
    if state := load_checkpoint(path):
        return LatentSet(**state)
    autoencoder, vocabulary = load_autoencoder(folder), Vocabulary()
    clips = sample_clips(seed, count, times, moving, motions)
    for clip in clips:
        clip.light = clip.light[:frames]
        for body in clip.bodies:
            body.x, body.y, body.radius, body.angle = (
                path[:frames] for path in (body.x, body.y, body.radius, body.angle)
            )
    latents, near = [], []
    chunk = CHUNK * FRAMES // frames
    for start in range(0, count, chunk):
        pictures, covered = render_clips(clips[start : start + chunk])
        flat = pictures.flatten(0, 1).float().div_(255).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            encoded = torch.cat([autoencoder.encode(part) for part in flat.split(64)])
        latents.append(encoded.float().half().unflatten(0, pictures.shape[:2]).contiguous())
        grown = F.max_pool2d(covered.flatten(0, 1)[:, None], 16, 8, 4) > 0.05
        near.append(grown[:, 0].unflatten(0, pictures.shape[:2]))
        print(f"{name}: {min(start + chunk, count)} of {count}", flush=True)
    tokens = torch.tensor([pad_tokens(vocabulary.encode(clip.caption)) for clip in clips])
    state = {"latents": torch.cat(latents), "near": torch.cat(near), "tokens": tokens}
    save_checkpoint(path, **state)
    return LatentSet(**state)


def picture_sets(folder: Path) -> tuple[LatentSet, LatentSet]:
    """Single pictures: those whose captions say what they show, and first frames whose captions name the motion."""
    stills = latent_set(folder, "stills", seed=11, count=16_000, frames=1, moving=False)
    return stills, latent_set(folder, "starts", seed=12, count=16_000, frames=1)
