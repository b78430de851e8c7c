"""LayersInfo: the metadata entry `emu_video` of a file of temporal layers."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

from .anchors import BASES, Anchor

FORMAT_VERSION = 1
ROLES = ("video", "interpolation", "super_resolution")
PREDICTIONS = ("v", "eps")
SCHEDULES = ("scaled_linear", "linear")
CONDITIONINGS = KNOWN_FRAMES, AFFINITY = ("known_frames", "affinity")


@dataclass(frozen=True)
class LayersInfo:
    """What one must know to run a file of temporal layers: its base, its anchors, and how it was trained.

    base: the image UNet's family, one of "sd15", "sd21", "sdxl", "pocket".
    role: "video", "interpolation" or "super_resolution".
    frames, fps: of the training clips.
    conditioning_channels: C+1 (known frames' latent channels and mask); 0 = no extra convolution.
    prediction: "v" or "eps".
    betas: {"schedule": "scaled_linear" | "linear", "start", "end", "steps"}.
    training: a free summary for people.
    conditioning: the order of the conditioning channels. "known_frames": latents of the known frames, zeros elsewhere,
        then their mask (1 = known). "affinity": how alike each frame is to the image (0..1), then the image's latents
        on every frame (PIA).
    modules: options of the modules of each kind of anchor, {kind: {option: value}}.
    family: whose layers these are, for people.
    noise_told: whether the mask carries the noise level, see `mask_with_noise_level` of diffusion.known_frames.

    The last four are written only where they differ from the defaults.
    """

    base: str
    role: str
    anchors: tuple[Anchor, ...]
    frames: int
    fps: float
    conditioning_channels: int
    prediction: str
    betas: dict[str, Any]
    zero_terminal_snr: bool
    training: dict[str, Any]
    format_version: int = FORMAT_VERSION
    conditioning: str = KNOWN_FRAMES
    modules: dict[str, dict[str, Any]] = field(default_factory=dict)
    family: str = "Emu Video"
    noise_told: bool = False

    def __post_init__(self) -> None:
        _require(self.format_version == FORMAT_VERSION, "format_version", self.format_version, f"{FORMAT_VERSION}")
        _require(self.base in BASES, "base", self.base, _list(BASES))
        _require(self.role in ROLES, "role", self.role, _list(ROLES))
        _require(self.prediction in PREDICTIONS, "prediction", self.prediction, _list(PREDICTIONS))
        _require(_is_count(self.frames) and self.frames > 0, "frames", self.frames, "a whole number above 0")
        _require(_is_number(self.fps) and self.fps > 0, "fps", self.fps, "a number above 0")
        _require(
            _is_count(self.conditioning_channels),
            "conditioning_channels",
            self.conditioning_channels,
            "a whole number",
        )
        for key in ("zero_terminal_snr", "noise_told"):
            _require(isinstance(getattr(self, key), bool), key, getattr(self, key), "true or false")
        _require(isinstance(self.training, dict), "training", self.training, "an object")
        _require(
            isinstance(self.betas, dict)
            and set(self.betas) == {"schedule", "start", "end", "steps"}
            and self.betas["schedule"] in SCHEDULES
            and all(_is_number(self.betas[key]) for key in ("start", "end", "steps")),
            "betas",
            self.betas,
            f"schedule ({_list(SCHEDULES)}), start, end and steps",
        )
        _require(self.conditioning in CONDITIONINGS, "conditioning", self.conditioning, _list(CONDITIONINGS))
        _require(
            isinstance(self.modules, dict) and all(isinstance(options, dict) for options in self.modules.values()),
            "modules",
            self.modules,
            "an object of objects",
        )
        _require(isinstance(self.family, str), "family", self.family, "a name")
        names = [anchor.name for anchor in self.anchors]
        _require(len(set(names)) == len(names) > 0, "anchors", names, "different names, at least one")

    def to_json(self) -> str:
        entries = asdict(self)
        optional = {f.name: f.default_factory() if f.default is MISSING else f.default for f in _optional(type(self))}
        return json.dumps({k: v for k, v in entries.items() if k == "format_version" or v != optional.get(k, MISSING)})

    @property
    def max_frames(self) -> int:
        """The most frames that one clip may have; 0 = any number."""
        return min((n for options in self.modules.values() if (n := options.get("positions", 0))), default=0)

    @classmethod
    def from_json(cls, text: str) -> LayersInfo:
        """Raises ValueError that names the entry when one is unknown, missing or of a wrong value."""
        try:
            entries = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"the metadata is not JSON ({error}).") from None
        _check_names(cls, entries, "the metadata")
        if not isinstance(entries["anchors"], list):
            raise ValueError('"anchors" in the metadata is not a list.')
        for anchor in entries["anchors"]:
            _check_names(Anchor, anchor, "an anchor in the metadata")
        return cls(**{**entries, "anchors": tuple(Anchor(**anchor) for anchor in entries["anchors"])})


def _check_names(cls: type, entries: Any, where: str) -> None:
    if not isinstance(entries, dict):
        raise ValueError(f"{where} is not a JSON object.")
    known = {field.name for field in fields(cls)}
    required = known - {field.name for field in _optional(cls)}
    for key in entries.keys() - known:
        raise ValueError(f'{where} has the unknown entry "{key}".')
    for key in required - entries.keys():
        raise ValueError(f'{where} lacks the entry "{key}".')


def _optional(cls: type) -> list[Any]:
    return [f for f in fields(cls) if f.default is not MISSING or f.default_factory is not MISSING]


def _require(condition: bool, key: str, value: Any, expected: str) -> None:
    if not condition:
        raise ValueError(f'"{key}" is {value!r}; expected {expected}.')


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _list(names: Any) -> str:
    return ", ".join(names)
