"""Clips as the trainer reads them: latents and text embeddings, from shards on disk or from memory.

A dataset folder holds `index.json` and shards `shard-00000.safetensors`, ... One shard has clips of one shape:

- `latents` [n, T, C, h, w] float16, in the scale of the network (after latent_format.process_in)
- `text` [m, L, D] float16, distinct text embeddings; row 0 is the null text
- `text_index` [n] int64, the row of `text` of each clip
- `pooled` [m, P], and `cond.NAME` [m, ...]: further conditioning of each text, if the base uses it
- `weight` [n, T, h, w] float16, optional: weights of the loss
- `upsampled` [n, T, C, h, w] float16, optional: latents of the smaller video, resized to the size of the clip
- `motion` [n] float32: motion scores
- `original_size` [n, 2], `crop` [n, 2]: width and height of the video, left and top of the crop in pixels of the clip

Shards are memory-mapped: a clip costs memory only while it is used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

FORMAT_VERSION = 1
INDEX = "index.json"
TEXT = {"text": "cross_attn", "pooled": "pooled_output"}
PREFIX = "cond."
OPTIONAL = ("weight", "upsampled")
SIZES = ("original_size", "crop")

Conds = dict[str, Tensor]
"""Conditioning of one text by ComfyUI's names, without a batch dimension: "cross_attn" [L, D], "pooled_output" [P].
With the conditioning of a clip also "original_size" [2] and "crop" [2], which SDXL reads."""
Shape = tuple[int, int, int, int]
"""(frames, latent channels, height, width) of a clip's latents."""


@dataclass(frozen=True)
class Clip:
    """A training clip.

    latents: [T, C, h, w] float32. text: its conditioning. weight: weight of the loss, [T, h, w], or None. upsampled:
    latents of the smaller video that super-resolution starts from, resized to the size of the clip, or None.
    sizes: "original_size" (width, height) and "crop" (left, top), or nothing if they are unknown. is_prior: whether the
    layers made the clip before training, see `training.prior`.
    """

    latents: Tensor
    text: Conds
    weight: Tensor | None = None
    upsampled: Tensor | None = None
    sizes: Conds = field(default_factory=dict)
    is_prior: bool = False

    def conditioning(self, text: Conds | None = None) -> Conds:
        """Return `text`, by default the clip's, with the sizes. Dropping the text keeps them, as in SDXL's training."""
        return {**(self.text if text is None else text), **self.sizes}


class Clips(Protocol):
    """A dataset.

    frames, fps: of every clip. downscale: factor of the clips' smaller version, 1 if there is none. key: hash of all
    inputs of the clips. null: conditioning of the empty text.
    """

    frames: int
    fps: float
    downscale: int
    key: str
    null: Conds

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Clip: ...

    def shape(self, number: int) -> Shape: ...

    def caption(self, number: int) -> str: ...


@dataclass(frozen=True)
class Entry:
    """One clip in `index.json`. source, start, stop: its video, and seconds in it. shard, row: place of its latents."""

    caption: str
    source: str
    start: float
    stop: float
    shard: str
    row: int


@dataclass(frozen=True)
class Index:
    """`index.json`. base: {"name": family, "hash": of its weights}; size: width and height of the largest clip;
    downscale: see `Clips`.
    """

    key: str
    base: dict[str, str]
    frames: int
    fps: float
    size: tuple[int, int]
    clips: tuple[Entry, ...]
    downscale: int = 1
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def read(cls, folder: Path) -> Index:
        """Read the index of a dataset folder. Raises ValueError for a folder that is not a dataset."""
        path = folder / INDEX
        if not path.is_file():
            raise ValueError(
                f"{folder} is not a dataset: it has no {INDEX}. Prepare your clips first (python run.py prepare), and "
                "choose the folder that it writes."
            )
        try:
            entries = json.loads(path.read_text("utf-8"))
            if entries["format_version"] != FORMAT_VERSION:
                raise ValueError(
                    f"{path} has format version {entries['format_version']}, this Emu Video reads {FORMAT_VERSION}: "
                    "prepare the clips again."
                )
            names = [field.name for field in fields(Entry)]
            clips = tuple(Entry(**{name: entry[name] for name in names}) for entry in entries["clips"])
            known = {field.name: entries[field.name] for field in fields(cls) if field.name != "downscale"}
            known["downscale"] = entries.get("downscale", 1)  # datasets of earlier versions have no smaller video
            return cls(**known | {"clips": clips, "size": tuple(entries["size"])})
        except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is damaged ({error}): prepare the clips again.") from None


class ShardedClips:
    """The clips of a dataset folder. Raises ValueError for another folder, or for shards that differ from the index."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.index = Index.read(folder)
        self.frames, self.fps, self.key = self.index.frames, self.index.fps, self.index.key
        self.downscale = self.index.downscale
        self.base = self.index.base
        if not self.index.clips:
            raise ValueError(f"{folder} has no clips: prepare at least one that is long enough.")
        self._open = lru_cache(maxsize=64)(partial(_open, folder))
        self._shapes = self._check()
        self.null = self._text(self._open(self.index.clips[0].shard), 0)

    def __len__(self) -> int:
        return len(self.index.clips)

    def __getitem__(self, number: int) -> Clip:
        entry = self.index.clips[number]
        shard = self._open(entry.shard)
        text = self._text(shard, int(shard.get_slice("text_index")[entry.row]))
        names = set(shard.keys())
        weight, upsampled = (shard.get_slice(name)[entry.row].float() if name in names else None for name in OPTIONAL)
        sizes = {name: shard.get_slice(name)[entry.row] for name in SIZES if name in names}
        return Clip(shard.get_slice("latents")[entry.row].float(), text, weight, upsampled, sizes)

    def shape(self, number: int) -> Shape:
        return self._shapes[self.index.clips[number].shard]

    def caption(self, number: int) -> str:
        return self.index.clips[number].caption

    def _check(self) -> dict[str, Shape]:
        rows: dict[str, int] = {}
        for entry in self.index.clips:
            rows[entry.shard] = max(rows.get(entry.shard, -1), entry.row)
        shapes = {}
        for name, row in rows.items():
            shard = self._open(name)
            needed = ("latents", "text", "text_index", *(("upsampled",) if self.downscale > 1 else ()))
            missing = sorted(set(needed).difference(shard.keys()))
            if missing:
                raise ValueError(f"{self.folder / name} lacks the tensor {missing[0]}: prepare the clips again.")
            count, *shape = shard.get_slice("latents").get_shape()
            if len(shape) != 4 or shape[0] != self.frames or row >= count:
                raise ValueError(
                    f"{self.folder / name} has latents {[count, *shape]}, but the index has clips of {self.frames} "
                    f"frames up to row {row}: prepare the clips again."
                )
            sizes = [count, shape[0], *shape[2:]]
            if "weight" in shard.keys() and shard.get_slice("weight").get_shape() != sizes:  # noqa: SIM118
                raise ValueError(
                    f"{self.folder / name} has weights {shard.get_slice('weight').get_shape()}, but its latents need "
                    f"{sizes}: make one for each clip, frame, row and column of the latents."
                )
            shapes[name] = tuple(shape)
        return shapes

    @staticmethod
    def _text(shard: Any, row: int) -> Conds:
        conds = {}
        for name in list(shard.keys()):
            if name in TEXT or name.startswith(PREFIX):
                conds[TEXT.get(name, name.removeprefix(PREFIX))] = shard.get_slice(name)[row].float()
        return conds


def _open(folder: Path, name: str) -> Any:
    path = folder / name
    try:
        return safe_open(path, framework="pt").__enter__()
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} is missing or damaged ({error}): prepare the clips again.") from None


class MemoryClips:
    """Clips in memory.

    Args:
        latents: [n, T, C, h, w], or a list of [T, C, h, w] in several shapes but of one length.
        texts: conditioning of each text.
        text_index: [n], index into `texts` of each clip. By default clip i has text i.
        null: conditioning of the empty text.
        weights: of the loss, [n, T, h, w] or a list of [T, h, w].
        upsampled: latents of the clips' smaller version, as `latents`. downscale: its factor.
    """

    def __init__(
        self,
        latents: Tensor | Sequence[Tensor],
        texts: Sequence[Conds],
        null: Conds,
        *,
        fps: float,
        text_index: Tensor | Sequence[int] | None = None,
        captions: Sequence[str] = (),
        weights: Tensor | Sequence[Tensor] | None = None,
        upsampled: Tensor | Sequence[Tensor] | None = None,
        downscale: int = 1,
        key: str = "",
    ):
        if len(latents) == 0:
            raise ValueError("There are no clips: connect at least one.")
        self.latents, self.texts, self.null, self.weights = latents, texts, null, weights
        self.upsampled, self.downscale = upsampled, downscale
        self.text_index = range(len(latents)) if text_index is None else text_index
        if len(self.text_index) != len(latents):
            raise ValueError(
                f"There are {len(latents)} clips, but {len(self.text_index)} texts: give one text for each clip."
            )
        lengths = sorted({each.shape[0] for each in latents})
        if len(lengths) > 1:
            raise ValueError(
                f"The clips have {', '.join(map(str, lengths))} frames: cut all of them to the same number."
            )
        self.captions, self.frames, self.fps, self.key = captions, lengths[0], fps, key

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, number: int) -> Clip:
        weight, upsampled = (None if each is None else each[number].float() for each in (self.weights, self.upsampled))
        return Clip(self.latents[number].float(), self.texts[int(self.text_index[number])], weight, upsampled)

    def shape(self, number: int) -> Shape:
        frames, channels, height, width = self.latents[number].shape
        return frames, channels, height, width

    def caption(self, number: int) -> str:
        return self.captions[number] if self.captions else f"clip {number + 1}"


class Batches:
    """The clips of each step, as a function of only (seed, step).

    Every clip is used once in an epoch. All clips of a batch have the same shape. The last batch of a shape is filled
    up with the first clips of this shape.
    """

    def __init__(self, clips: Clips, numbers: Sequence[int], *, batch: int, seed: int):
        self.batch, self.seed = batch, seed
        self.buckets: dict[Shape, list[int]] = {}
        for number in numbers:
            self.buckets.setdefault(clips.shape(number), []).append(number)
        self.steps = sum(-(-len(bucket) // batch) for bucket in self.buckets.values())
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    def __getitem__(self, step: int) -> list[int]:
        epoch, position = divmod(step, self.steps)
        planned = self._epoch  # another thread may replace it
        if planned[0] != epoch:
            planned = self._epoch = (epoch, self._plan(epoch))
        return planned[1][position]

    def _plan(self, epoch: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, epoch, -1))
        batches = []
        for bucket in self.buckets.values():
            order = [bucket[i] for i in torch.randperm(len(bucket), generator=generator).tolist()]
            for start in range(0, len(order), self.batch):
                batches.append([order[i % len(order)] for i in range(start, start + self.batch)])
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def mixed_seed(*numbers: int) -> int:
    """Mix several numbers into one seed, so that neighbouring numbers give unrelated noise (splitmix64)."""
    state = 0
    for number in numbers:
        state = (state ^ (number % 2**64)) + 0x9E3779B97F4A7C15 & 2**64 - 1
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & 2**64 - 1
        state = (state ^ state >> 27) * 0x94D049BB133111EB & 2**64 - 1
        state ^= state >> 31
    return state >> 1


def hold_out(clips: Clips, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Return the numbers of the clips to train on and of the held-out ones: a `share`, or none of fewer than 10."""
    order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(seed)).tolist()
    count = max(1, round(len(clips) * share)) if share and len(clips) >= 10 else 0
    return sorted(order[count:]), sorted(order[:count])


def stacked_text(texts: Sequence[Conds]) -> Conds:
    """Return the conditionings of several texts as one batch.

    Embeddings of different lengths are repeated to the same length, as ComfyUI does. Cross-attention gives the same
    result.
    """
    common = math.lcm(*(len(text["cross_attn"]) for text in texts))
    batch = {"cross_attn": torch.stack([t["cross_attn"].repeat(common // len(t["cross_attn"]), 1) for t in texts])}
    for name in texts[0].keys() - {"cross_attn"}:
        batch[name] = torch.stack([text[name] for text in texts])
    return batch


def check_base(clips: Any, base: Mapping[str, str]) -> None:
    """Raise ValueError if shards were encoded with another checkpoint than the one to train on."""
    made_with = getattr(clips, "base", None)
    if made_with and made_with["name"] != base["name"]:
        raise ValueError(
            f"The clips were prepared with a checkpoint of the family {made_with['name']}, but the model is "
            f"{base['name']}: use a {made_with['name']} checkpoint, or prepare the clips with this one."
        )
