"""Shards: files of encoded clips. Each is written atomically and stores a key of all inputs."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from ...diffusion.resize import upsampled
from ..checkpoint import disk_full_named, written_whole
from .candidate import Candidate
from .settings import Note, Settings

METADATA = "emu_video_clips"
CLIPS = 256  # most clips of a shard
BYTES = 256 * 2**20  # largest size of a shard's latents, which are in memory while it is made


@dataclass(frozen=True)
class Encoders:
    """Encoding functions of a checkpoint, and the facts that identify it.

    Args:
        frames: RGB in 0..1 [T, h, w, 3] -> latents [T, C, h / r, w / r] in the scale of the network.
        text: A caption -> `text` [L, D], and `pooled` [P] and `cond.NAME` if the base uses them.
        windows: A caption -> number of windows of the text encoder that it needs. L is a multiple of it.
        ratio: Pixels r per latent along each side. Width and height of a clip are multiples of it.
        channels: Latent channels C.
        identity: All that determines the results of `frames` and `text`, as JSON values.
        base: Family and hash of the checkpoint.
        matching: First frame uint8 [h, w, 3] and caption -> CLIP score.
        aesthetic: First frame -> aesthetic score.
    """

    frames: Callable[[Tensor], Tensor]
    text: Callable[[str], dict[str, Tensor]]
    windows: Callable[[str], int]
    ratio: int
    channels: int
    identity: dict
    base: dict
    matching: Callable[[np.ndarray, str], float] | None = None
    aesthetic: Callable[[np.ndarray], float] | None = None


@dataclass
class Shard:
    """Plan of a shard.

    Args:
        number: Its number in the dataset.
        size: Width and height of its clips in pixels.
        clips: Its clips.
        key: Digest of all that determines its contents.
    """

    number: int
    size: tuple[int, int]
    clips: list[Candidate]
    key: str = ""
    notes: list[Note] = field(default_factory=list)

    @property
    def file(self) -> str:
        return f"shard-{self.number:05d}.safetensors"

    @property
    def preview(self) -> str:
        return f"shard-{self.number:05d}.mp4"

    def bytes(self, encoders: Encoders, settings: Settings) -> int:
        """Return the size of its latents in bytes."""
        return len(self.clips) * latent_bytes(self.size, encoders, settings)


def digest(*facts: object) -> str:
    """Return the SHA-256 of JSON values."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def latent_bytes(size: tuple[int, int], encoders: Encoders, settings: Settings) -> int:
    """Return the size of one clip's latents in bytes."""
    versions = 2 if settings.downscale > 1 else 1
    area = (size[0] // encoders.ratio) * (size[1] // encoders.ratio)
    return 2 * versions * settings.frames * encoders.channels * area


def plan(clips: Iterable[tuple[Candidate, tuple[int, int]]], encoders: Encoders, settings: Settings) -> list[Shard]:
    """Return the shards for clips with their sizes. Each shard has clips of one size, in the given order."""
    by_size: dict[tuple[int, int], list[Candidate]] = {}
    for clip, size in clips:
        by_size.setdefault(size, []).append(clip)
    shards: list[Shard] = []
    for size, of_size in sorted(by_size.items()):
        most = min(CLIPS, max(1, BYTES // latent_bytes(size, encoders, settings)))
        for start in range(0, len(of_size), most):
            shards.append(Shard(len(shards), size, of_size[start : start + most]))
    return shards


class Contents:
    """Contents of a shard while clips are added. The tensor of latents is allocated once, which saves memory."""

    def __init__(self, encoders: Encoders, room: int, captions: Iterable[str], downscale: int = 1):
        self._encoders, self._room, self._downscale = encoders, room, downscale
        self._windows = math.lcm(*(encoders.windows(caption) for caption in {"", *captions}))
        self._latents: dict[str, Tensor] = {}
        self._texts = {"": self._encode("")}  # row 0 is the null text
        self.rows: list[dict] = []
        self._columns: dict[str, list] = {"text_index": [], "motion": [], "original_size": [], "crop": []}

    def _encode(self, caption: str) -> dict[str, Tensor]:
        encoded = {key: value.to("cpu", torch.float16) for key, value in self._encoders.text(caption).items()}
        # All texts of a shard have the same length. Repetition of a text does not change cross-attention.
        return encoded | {"text": encoded["text"].repeat(self._windows // self._encoders.windows(caption), 1)}

    def add(self, clip: Candidate, frames: np.ndarray, crop: tuple[int, int]) -> str:
        """Encode a clip and add it. Return the reason why it cannot be used, or ""."""
        pictures = torch.from_numpy(frames).float() / 255
        versions = {"latents": pictures}
        if self._downscale > 1:
            versions["upsampled"] = upsampled(pictures, self._downscale)
        encoded = {name: self._encoders.frames(each).to("cpu", torch.float16) for name, each in versions.items()}
        if not all(latents.isfinite().all() for latents in encoded.values()):
            return "The VAE's latents contain NaN or infinity: load the VAE in float32."
        for name, latents in encoded.items():
            if name not in self._latents:
                self._latents[name] = torch.empty((self._room, *latents.shape), dtype=torch.float16)
            self._latents[name][len(self.rows)] = latents
        if clip.caption not in self._texts:
            self._texts[clip.caption] = self._encode(clip.caption)
        self._columns["text_index"].append(list(self._texts).index(clip.caption))
        self._columns["motion"].append(clip.motion)
        self._columns["original_size"].append(clip.size)
        self._columns["crop"].append(crop)
        self.rows.append(clip.facts())
        return ""

    def tensors(self) -> dict[str, Tensor]:
        """Return latents (and upsampled) [n, T, C, h, w], text [m, L, D] (and pooled), text_index and motion [n], and
        sizes [n, 2]."""
        kinds = {"motion": torch.float32}
        columns = {key: torch.tensor(value, dtype=kinds.get(key, torch.int64)) for key, value in self._columns.items()}
        names = self._texts[""]
        texts = {name: torch.stack([encoded[name] for encoded in self._texts.values()]) for name in names}
        latents = {name: each[: len(self.rows)] for name, each in self._latents.items()}
        return {**latents, **texts, **columns}


def save(folder: Path, shard: Shard, contents: Contents) -> None:
    """Write a shard.

    Raises:
        DiskFull: The disk is full. Shards that were written before are kept.
    """
    notes = [vars(note) for note in shard.notes]
    metadata = {METADATA: json.dumps({"key": shard.key, "clips": contents.rows, "notes": notes})}
    tensors = contents.tensors() if contents.rows else {"latents": torch.empty(0)}
    with disk_full_named(folder), written_whole(folder / shard.file) as temporary:
        save_file(tensors, temporary, metadata)


def load(folder: Path, shard: Shard) -> tuple[list[dict], list[Note]] | None:
    """Return the rows and notes of a shard on disk if it was made from the same inputs, otherwise None."""
    try:
        with safetensors.safe_open(folder / shard.file, "pt") as file:
            stored = json.loads((file.metadata() or {})[METADATA])
    except (OSError, KeyError, ValueError, safetensors.SafetensorError):
        return None
    if stored["key"] != shard.key or not (folder / shard.preview).is_file():
        return None
    return stored["clips"], [Note(**note) for note in stored["notes"]]
