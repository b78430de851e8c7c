"""LayersInfo: the metadata entry `emu_video` of a file of temporal layers.

The entry has two versions. Version 1 states betas (entries prediction, betas, zero_terminal_snr) and is for UNets.
It is written whenever it can hold all fields, so that earlier versions of Emu Video can read the file. Version 2 states
`noise` and is written for flows and for other backbones.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, field, fields
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from .backbones import UNET, Anchor, bases
from .backbones.base import STRICT
from .noise import Discrete, Noise
from .sentences import first_fault, shown

VERSIONS = (1, 2)
Role = Literal["video", "interpolation", "super_resolution"]
ROLES: tuple[str, ...] = get_args(Role)
KNOWN_FRAMES, AFFINITY = "known_frames", "affinity"
SOURCE, LEFT_OUT = "source", "image weights left out"  # where version 1 keeps the fields source and left_out
MAX_ANCHORS = 4096  # SDXL with a block behind each transformer block has 110
MAX_TEXT = 2**22  # characters of the entry
PAPER_GUIDANCE = (7.5, 2.0)  # text and image weight of equation 1 (section 4)
GUIDANCE_OF_BASE = {"pocket": (2.0, 1.0), "pocket2": (2.0, 1.0)}  # the same for layers whose file states no weights


def _known_base(base: str) -> str:
    if base not in bases():
        raise ValueError(f"expected {', '.join(bases())}")
    return base


def _different_names(anchors: tuple[Anchor, ...]) -> tuple[Anchor, ...]:
    if len({anchor.name for anchor in anchors}) < len(anchors):
        raise ValueError("anchors must have different names")
    return anchors


Guidance = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Anchors = Annotated[tuple[Anchor, ...], Field(min_length=1, max_length=MAX_ANCHORS), AfterValidator(_different_names)]


@dataclass(frozen=True, config=STRICT)
class LayersInfo:
    """Metadata needed to run a file of temporal layers: base, anchors and training settings.

    base: the image model's family, one of `backbones.bases()`.
    role: "video" makes frames from known first frames or from text, "interpolation" fills frames between known ones,
        "super_resolution" makes frames sharper, with all of them known at a lower resolution.
    frames, fps: length and frame rate of the training clips.
    conditioning_channels: C+1 (known frames' latent channels and mask); 0 = no conditioning.
    noise: the noise process that the layers were trained with.
    training: a summary of the training, for display only.
    conditioning: the order of the conditioning channels. "known_frames": latents of the known frames, zeros elsewhere,
        then their mask (1 = known). "affinity": similarity of each frame to the image (0..1), then the image's latents
        on every frame (PIA).
    modules: options of the modules of each kind of anchor, {kind: {option: value}}.
    family: layer family, for display only.
    noise_told: whether the mask states the noise level, see `mask_with_noise_level` of diffusion.known_frames.
    factor: upscaling factor of super-resolution; 1 for other roles.
    source: the public file that the layers were converted from, and `left_out`, the number of its image weights that
        are not used.
    text_guidance, image_guidance: weights of equation 1 to sample with. At the paper's, those of the base are used, see
        `guidance`.

    Raises pydantic's ValidationError, a ValueError, for a value out of range.
    """

    base: Annotated[str, AfterValidator(_known_base)]
    role: Role
    anchors: Anchors
    frames: Annotated[int, Field(ge=1, le=100_000)]
    fps: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)]
    conditioning_channels: Annotated[int, Field(ge=0, le=2**16)]
    noise: Noise
    training: dict[str, Any] = field(default_factory=dict)
    conditioning: Literal["known_frames", "affinity"] = KNOWN_FRAMES
    modules: Annotated[dict[str, dict[str, Any]], Field(max_length=64)] = field(default_factory=dict)
    family: Annotated[str, Field(max_length=200)] = "Emu Video"
    noise_told: bool = False
    factor: Annotated[int, Field(ge=1, le=64)] = 1
    source: str = ""
    left_out: Annotated[int, Field(ge=0)] = 0
    text_guidance: Guidance = PAPER_GUIDANCE[0]
    image_guidance: Guidance = PAPER_GUIDANCE[1]

    @property
    def guidance(self) -> tuple[float, float]:
        """Text and image weight to sample with."""
        stated = self.text_guidance, self.image_guidance
        return GUIDANCE_OF_BASE.get(self.base, stated) if stated == PAPER_GUIDANCE else stated

    @property
    def max_frames(self) -> int:
        """Largest number of frames of one video; 0 = no limit."""
        return min((n for options in self.modules.values() if (n := options.get("positions", 0))), default=0)

    @property
    def prediction(self) -> str:
        """ "v", "eps" or "flow"."""
        return self.noise.prediction if isinstance(self.noise, Discrete) else self.noise.kind

    @property
    def betas(self) -> dict[str, Any]:
        """Arguments of diffusion.schedule.betas. Raises ValueError for a flow, which has no betas."""
        if not isinstance(self.noise, Discrete):
            raise ValueError(f"These temporal layers ({self.family}) were trained with a flow, which has no betas.")
        return self.noise.betas

    @property
    def zero_terminal_snr(self) -> bool:
        """Whether the last timestep is pure noise, which is always true for a flow."""
        return not isinstance(self.noise, Discrete) or self.noise.zero_terminal_snr

    def to_json(self) -> str:
        """Return the metadata entry. Fields with default values are left out."""
        entries = {key: value for key, value in asdict(self).items() if value != _defaults().get(key, MISSING)}
        if isinstance(self.noise, Discrete) and self.base in UNET.bases:
            return json.dumps({"format_version": 1} | _as_version_1(entries, self.noise))
        return json.dumps({"format_version": 2} | entries)

    @classmethod
    def from_json(cls, text: str) -> LayersInfo:
        """Parse the metadata entry. Raises ValueError that names an unknown, missing or wrong field."""
        entries = _object(text)
        version = entries.pop("format_version", None)
        if version not in VERSIONS or isinstance(version, bool):
            raise ValueError(f'"format_version" is {shown(version)}: expected {" or ".join(map(str, VERSIONS))}.')
        if version == 1:
            entries = _from_version_1(entries)
        try:
            return TypeAdapter(cls).validate_json(json.dumps(entries))
        except ValidationError as error:
            raise ValueError(f"{first_fault(error)}.") from None


def _defaults() -> dict[str, Any]:
    defaults = {}
    for f in fields(LayersInfo):
        if f.default is not MISSING or f.default_factory is not MISSING:
            defaults[f.name] = f.default if f.default_factory is MISSING else f.default_factory()
    return defaults


def _object(text: str) -> dict[str, Any]:
    if len(text) > MAX_TEXT:
        raise ValueError(f"the metadata has {len(text)} characters, more than {MAX_TEXT}.")
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the metadata is not JSON ({error}).") from None
    if not isinstance(entries, dict):
        raise ValueError("the metadata is not a JSON object.")
    return entries


def _as_version_1(entries: dict[str, Any], noise: Discrete) -> dict[str, Any]:
    origin = {SOURCE: entries.pop("source", ""), LEFT_OUT: entries.pop("left_out", 0)}
    del entries["noise"]
    states = {"prediction": noise.prediction, "betas": noise.betas, "zero_terminal_snr": noise.zero_terminal_snr}
    return entries | states | {"training": entries.get("training", {}) | (origin if origin[SOURCE] else {})}


def _from_version_1(entries: dict[str, Any]) -> dict[str, Any]:
    betas: Any = entries.get("betas")
    training: Any = entries.get("training")
    for name, value in (("betas", betas), ("training", training)):
        if name in entries and not isinstance(value, dict):
            raise ValueError(f'"{name}" is {shown(value)}: expected an object.')
    for name in ("prediction", "betas", "zero_terminal_snr", "training"):
        if name not in entries:
            raise ValueError(f'the entry "{name}" is missing.')
    for name in ("noise", "source", "left_out"):
        if name in entries:
            raise ValueError(f'the entry "{name}" is unknown in format version 1.')
    missing = {"schedule", "start", "end", "steps"} - betas.keys()
    if missing:
        raise ValueError(f'the entry "betas.{min(missing)}" is missing.')
    noise = betas | {"kind": "discrete"} | {key: entries.pop(key) for key in ("prediction", "zero_terminal_snr")}
    del entries["betas"]
    if isinstance(training.get(SOURCE), str):
        entries |= {"source": training.pop(SOURCE), "left_out": training.pop(LEFT_OUT, 0)}
    return entries | {"noise": noise}
