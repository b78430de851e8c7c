"""Clips of the ablations: drawn in two sizes, encoded once, and spoiled on purpose for (d)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from ...training.clips import MemoryClips
from ..model.autoencoder import Autoencoder
from ..model.text_encoder import tokens_of
from ..stages.clips import near_shapes
from ..stages.run import save_tensors
from ..world import FPS, TIMES, Clip, Scenes, render_clips, sample_clips
from ..world.vocabulary import MOTIONS
from .recipes import SCENES, UNSEEN, Scale

TRAINING_SEED, JUDGED_SEED, PICTURE_SEED, SPOIL_SEED = 501, 502, 503, 504
NEAR_WEIGHT = 5.0  # loss weight of latents near a shape
STATIC, WORDLESS = 0.4, 0.3
"""Shares of the noisy clips that are a repeated first frame, and whose caption does not tell the motion."""
CHUNK = 128  # scenes drawn at a time
CHANNELS = 3  # of the latents: they hold the colours of the small picture
PICTURES = Scenes(is_moving=False, pairs=0.0), replace(SCENES, dimming=0.0)


@dataclass(frozen=True)
class Encoded:
    """latents: [n, T, C, h, w] float16. near: [n, T, h, w] bool, True close to a shape."""

    latents: Tensor
    near: Tensor


def shows_unseen(scene: Clip) -> bool:
    return not {scene.bodies[0].shape, scene.bodies[0].colour}.isdisjoint(UNSEEN)


def training_scenes(count: int) -> list[Clip]:
    """Return the scenes of the training set, none with a word of UNSEEN."""
    drawn = sample_clips(TRAINING_SEED, 2 * count, scenes=SCENES)
    return [scene for scene in drawn if not shows_unseen(scene)][:count]


def judged_scenes(count: int) -> list[Clip]:
    """Return the scenes whose captions are judged; a quarter of them shows a shape or colour of UNSEEN."""
    drawn = sample_clips(JUDGED_SEED, 20 * count, scenes=SCENES)
    unseen = count // 4
    usual = [scene for scene in drawn if not shows_unseen(scene)][: count - unseen]
    return usual + [scene for scene in drawn if shows_unseen(scene)][:unseen]


@torch.no_grad()
def encode(autoencoder: Autoencoder, scenes: list[Clip], size: int) -> Encoded:
    """Draw and encode scenes with frames of `size` pixels."""
    latents, near = [], []
    for start in range(0, len(scenes), CHUNK):
        pictures, covered = render_clips(scenes[start : start + CHUNK], size)
        flat = (pictures.flatten(0, 1).float() / 255).contiguous(memory_format=torch.channels_last)
        encoded = torch.cat([autoencoder.encode(part) for part in flat.split(64)])
        latents.append(encoded.half().unflatten(0, pictures.shape[:2]).contiguous())
        near.append(near_shapes(covered))
    return Encoded(torch.cat(latents), torch.cat(near))


def encoded_training_set(folder: Path, autoencoder: Autoencoder, scale: Scale, size: int) -> Encoded:
    """Return the training set from the folder; it is made first if missing."""
    path = folder / f"clips_{size}.safetensors"
    if not path.exists():
        made = encode(autoencoder, training_scenes(scale.clips), size)
        save_tensors(path, vars(made), {"seed": TRAINING_SEED, "size": size})
    return Encoded(**load_file(path))


def residual_spread(made: Encoded) -> float:
    """Return the standard deviation, in latents, of a clip's mean colour that its first frame does not tell."""
    latents = made.latents[:, :, :CHANNELS].float().mean((3, 4)).numpy()  # [n, T, C]
    first, whole = latents[:, 0], latents.mean(1)
    basis = np.concatenate([first, np.ones((len(first), 1))], 1)
    fit, *_ = np.linalg.lstsq(basis, whole, rcond=None)
    return float((whole - basis @ fit).std())


def without_motion(caption: str) -> str:
    """Return a caption without its words of motion and speed."""
    for phrase in (*MOTIONS, "slowly", "fast"):
        caption = caption.replace(f" {phrase}", "")
    return caption


def training_clips(data: str, made: Encoded, scale: Scale) -> MemoryClips:
    """Return a set of clips.

    data: "clean"; "noisy", with static clips and captions without motion; "best", the noisy set's intact clips of a
    shape that moves; "random", as many of the noisy set at random.
    """
    scenes = training_scenes(scale.clips)
    captions, latents, chosen = [scene.caption for scene in scenes], made.latents, list(range(len(scenes)))
    if data != "clean":
        rng = np.random.default_rng(SPOIL_SEED)
        lot = rng.random(len(scenes))
        is_static, is_wordless = lot < STATIC, (lot >= STATIC) & (lot < STATIC + WORDLESS)
        captions = [without_motion(c) if spoiled else c for c, spoiled in zip(captions, is_wordless, strict=True)]
        static = torch.from_numpy(is_static)[:, None, None, None, None]
        latents = torch.where(static, latents[:, :1], latents)
        intact = [i for i in chosen if lot[i] >= STATIC + WORDLESS and scenes[i].bodies[0].motion != "still"]
        if data == "best":
            chosen = intact[: scale.subset]
        elif data == "random":
            chosen = sorted(rng.permutation(len(scenes))[: min(scale.subset, len(intact))].tolist())
    return MemoryClips(
        latents[chosen],
        [{"tokens": each} for each in tokens_of([captions[i] for i in chosen])],
        {"tokens": tokens_of([""])[0]},
        fps=FPS,
        captions=[captions[i] for i in chosen],
        weights=torch.where(made.near[chosen], NEAR_WEIGHT, 1.0).half(),
        key=f"{data} {len(chosen)} of {scale.clips} at {latents.shape[-1]}",
    )


def pictures(count: int) -> list[Clip]:
    """Return single pictures with captions, half of them first frames of videos. All shapes and colours occur."""
    still, moving = (sample_clips(PICTURE_SEED + i, count // 2, TIMES[:1], scenes) for i, scenes in enumerate(PICTURES))
    return [scene for pair in zip(still, moving, strict=True) for scene in pair]


def true_videos(scenes: list[Clip], size: int) -> np.ndarray:
    """Return the scenes as videos, uint8 [n, T, size, size, 3]."""
    return render_clips(scenes, size)[0].movedim(2, -1).numpy()
