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
SETTINGS = (
    TRAINING_SEED,
    JUDGED_SEED,
    PICTURE_SEED,
    SPOIL_SEED,
    NEAR_WEIGHT,
    STATIC,
    WORDLESS,
)  # part of the identity of a run
PICTURES = Scenes(is_moving=False, pairs=0.0), replace(SCENES, dimming=0.0)


@dataclass(frozen=True)
class Encoded:
    """latents: [n, T, C, h, w] float16. near: [n, T, h, w] bool, True close to a shape."""

    latents: Tensor
    near: Tensor


def words_of(scene: Clip) -> set[str]:
    return {scene.bodies[0].shape, scene.bodies[0].colour}


def shows_unseen(scene: Clip) -> bool:
    return not words_of(scene).isdisjoint(UNSEEN)


def light_of(scene: Clip) -> int:
    """Return 1 for a scene that gets brighter, -1 for one that gets darker, 0 for steady light."""
    return int(np.sign(scene.light[-1] - scene.light[0]))


def training_scenes(count: int) -> list[Clip]:
    """Return the scenes of the training set, none with a word of UNSEEN."""
    drawn = sample_clips(TRAINING_SEED, 2 * count, scenes=SCENES)
    return [scene for scene in drawn if not shows_unseen(scene)][:count]


def judged_scenes(count: int) -> list[Clip]:
    """Return the scenes whose captions are judged.

    A quarter shows a shape or a colour of UNSEEN, as often the one as the other. In another quarter the light changes.
    """
    drawn = sample_clips(JUDGED_SEED, 40 * count, scenes=SCENES)
    seen = [scene for scene in drawn if not shows_unseen(scene)]
    quarter = count // 4
    unseen = [[scene for scene in drawn if words_of(scene) & set(UNSEEN) == {word}] for word in UNSEEN]
    changing = [scene for scene in seen if light_of(scene)][:quarter]
    steady = [scene for scene in seen if not light_of(scene)][: count - 2 * quarter]
    return steady + changing + [scene for pair in zip(*unseen, strict=False) for scene in pair][:quarter]


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
    captions, chosen = [scene.caption for scene in scenes], list(range(len(scenes)))
    latents, near = made.latents, made.near
    if data != "clean":
        rng = np.random.default_rng(SPOIL_SEED)
        lot = rng.random(len(scenes))
        is_static, is_wordless = lot < STATIC, (lot >= STATIC) & (lot < STATIC + WORDLESS)
        captions = [without_motion(c) if spoiled else c for c, spoiled in zip(captions, is_wordless, strict=True)]
        static = torch.from_numpy(is_static)[:, None, None, None]
        latents = torch.where(static[..., None], latents[:, :1], latents)
        near = torch.where(static, near[:, :1], near)
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
        weights=torch.where(near[chosen], NEAR_WEIGHT, 1.0).half(),
        key=f"{data} {len(chosen)} of {scale.clips} at {latents.shape[-1]}",
    )


def pictures(count: int) -> list[Clip]:
    """Return single pictures with captions, half of them first frames of videos. All shapes and colours occur."""
    still, moving = (sample_clips(PICTURE_SEED + i, count // 2, TIMES[:1], scenes) for i, scenes in enumerate(PICTURES))
    return [scene for pair in zip(still, moving, strict=True) for scene in pair]


def true_videos(scenes: list[Clip], size: int) -> np.ndarray:
    """Return the scenes as videos, uint8 [n, T, size, size, 3]."""
    return render_clips(scenes, size)[0].movedim(2, -1).numpy()
