"""Shards: files of encoded clips, each written whole or not at all, and keyed by all that made it."""

from __future__ import annotations

import errno
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
from ..checkpoint import written_whole
from .candidate import Candidate
from .settings import Note, Settings

METADATA = "emu_video_clips"
CLIPS = 256  # of one shard at most
BYTES = 256 * 2**20  # of the latents of one shard at most, so that memory stays bounded


@dataclass(frozen=True)
class Encoders:
    """Functions of a checkpoint, and what it is.

    Args:
        frames: RGB in 0..1 [T, h, w, 3] -> latents [T, C, h / r, w / r] in the scale of the network.
        text: A caption -> `text` [L, D], where the base has them `pooled` [P] and `cond.NAME`.
        windows: A caption -> how many windows of the text encoder it fills; L is a multiple of it.
        ratio: Pixels r to a latent along each side; width and height of a clip are multiples of it.
        channels: C.
        identity: What decides the result of `frames` and `text`; JSON.
        base: Name and hash of the checkpoint.
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
    """A file to be written.

    Args:
        number: Its place in the dataset.
        size: Width and height of its clips in pixels.
        clips: The clips that it is to hold.
        key: Digest of all that decides its contents.
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
        """Size of its latents."""
        return len(self.clips) * latent_bytes(self.size, encoders, settings)


def digest(*facts: object) -> str:
    """SHA-256 of JSON."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def latent_bytes(size: tuple[int, int], encoders: Encoders, settings: Settings) -> int:
    """Size of the latents of one clip."""
    versions = 2 if settings.downscale > 1 else 1
    area = (size[0] // encoders.ratio) * (size[1] // encoders.ratio)
    return 2 * versions * settings.frames * encoders.channels * area


def plan(clips: Iterable[tuple[Candidate, tuple[int, int]]], encoders: Encoders, settings: Settings) -> list[Shard]:
    """Return the shards of clips with their sizes: of one size each, in the order of the clips."""
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
    """Tensors of a shard while it is being filled. Latents are allocated once, so nothing is held twice."""

    def __init__(self, encoders: Encoders, room: int, captions: Iterable[str], downscale: int = 1):
        self._encoders, self._room, self._downscale = encoders, room, downscale
        self._windows = math.lcm(*(encoders.windows(caption) for caption in {"", *captions}))
        self._latents: dict[str, Tensor] = {}
        self._texts = {"": self._encode("")}  # row 0 is the null text
        self.rows: list[dict] = []
        self._columns: dict[str, list] = {"text_index": [], "motion": [], "original_size": [], "crop": []}

    def _encode(self, caption: str) -> dict[str, Tensor]:
        encoded = {key: value.to("cpu", torch.float16) for key, value in self._encoders.text(caption).items()}
        # All texts of a shard get one length. Cross-attention gives the same for a text that is repeated.
        return encoded | {"text": encoded["text"].repeat(self._windows // self._encoders.windows(caption), 1)}

    def add(self, clip: Candidate, frames: np.ndarray, crop: tuple[int, int]) -> str:
        """Encode a clip and keep it; return why it cannot be used, or ""."""
        pictures = torch.from_numpy(frames).float() / 255
        versions = {"latents": pictures}
        if self._downscale > 1:
            versions["upsampled"] = upsampled(pictures, self._downscale)
        encoded = {name: self._encoders.frames(each).to("cpu", torch.float16) for name, each in versions.items()}
        if not all(latents.isfinite().all() for latents in encoded.values()):
            return "The VAE gives numbers that are not finite: load it in float32."
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
        RuntimeError: The disk is full. What was written before stays.
    """
    notes = [vars(note) for note in shard.notes]
    metadata = {METADATA: json.dumps({"key": shard.key, "clips": contents.rows, "notes": notes})}
    tensors = contents.tensors() if contents.rows else {"latents": torch.empty(0)}
    with disk_full_named(folder), written_whole(folder / shard.file) as temporary:
        save_file(tensors, temporary, metadata)


def load(folder: Path, shard: Shard) -> tuple[list[dict], list[Note]] | None:
    """Return the rows and notes of a shard on disk that was made from the same things, or None."""
    try:
        with safetensors.safe_open(folder / shard.file, "pt") as file:
            stored = json.loads((file.metadata() or {})[METADATA])
    except (OSError, KeyError, ValueError, safetensors.SafetensorError):
        return None
    if stored["key"] != shard.key or not (folder / shard.preview).is_file():
        return None
    return stored["clips"], [Note(**note) for note in stored["notes"]]


class disk_full_named:
    """Turns the errors of a full disk into one sentence."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind, error, _trace) -> None:
        full = getattr(error, "errno", None) == errno.ENOSPC or f"os error {errno.ENOSPC}" in str(error)
        if error is not None and full:
            raise RuntimeError(
                f"The disk of {self.folder} is full. What is written there is whole: free some space and run this "
                "again, and it goes on from there."
            ) from error
