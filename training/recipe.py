"""Recipes: TOML files with the training settings of temporal layers.

Keys at the top apply to every stage; a `[[stage]]` overrides some of them. Each stage starts from the layers of the
previous one. A recipe without `[[stage]]` has one stage. The keys are the fields of `Recipe` and `Stage`.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from ..temporal_layers.info import ROLES
from .known_frames import KNOWN, KnownFrames, given_positions
from .loop import Settings
from .objective import TIMESTEPS, Dropout

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TEXTS = ("prompts", "prior_prompts")
SHIPPED = Path(__file__).parent / "recipes"
ENDINGS = ("", "_raw", "_lora", "_image_model")  # of the files of a stage


def _number(default: float, low: float, high: float = float("inf")) -> Any:
    return field(default=default, metadata={"low": low, "high": high})


def _choice(default: str, *choices: str) -> Any:
    return field(default=default, metadata={"choices": choices})


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Clips: `dataset` is a folder that replaces the one given; `held_out` is the share of clips that are not trained on.
    Objective: `prediction` "base" keeps that of given layers, and fresh layers take the checkpoint's; `known_frames` is
    the pattern of given frames, `known_every` and `known_margin` set it for interpolation; `known_noise` is the highest
    timestep of their noise, `known_exact` the share of clips without it; `downscale` is the factor of super-resolution.
    `drop_text`, `drop_all`: shares of clips without text, without text and known frames. `last_timestep`: share of
    clips at the last one. `timestep_weights` "learned" divides the loss of a clip by the usual one of its timestep.
    Steps: `batch` clips make one step, `clips_at_once` of them are in memory at a time. A cosine decays `learning_rate`
    to `final_rate` times it; 1 keeps it constant. `shard` splits weights and moments over processes.
    """

    name: str = "motion"
    dataset: str = ""
    role: str = _choice("video", *ROLES)
    prediction: str = _choice("base", "base", "eps", "v")
    zero_terminal_snr: bool = False
    frames: int = _number(0, 0, 4096)
    known_frames: str = _choice("first", *KNOWN)
    known_every: int = _number(0, 0, 64)
    known_margin: int = _number(0, 0, 64)
    known_noise: int = _number(0, 0, 999)
    known_exact: float = _number(0.5, 0, 1)
    downscale: int = _number(1, 1, 8)
    turn_round: float = _number(0.0, 0, 1)
    drop_text: float = _number(0.1, 0, 1)
    drop_all: float = _number(0.1, 0, 1)
    timesteps: str = _choice("noisy", *TIMESTEPS)
    timestep_weights: str = _choice("equal", "equal", "learned")
    last_timestep: float = _number(0.05, 0, 1)
    drift_weight: float = _number(0.0, 0)
    held_out: float = _number(0.05, 0, 0.9)
    steps: int = _number(1000, 1)
    batch: int = _number(4, 1)
    clips_at_once: int = _number(1, 1)
    learning_rate: float = _number(1e-4, 0)
    warmup: int = _number(100, 0)
    final_rate: float = _number(1.0, 0, 1)
    weight_decay: float = _number(0.0, 0)
    adam_beta1: float = _number(0.9, 0, 0.999999)
    adam_beta2: float = _number(0.999, 0, 0.999999)
    gradient_clip: float = _number(1.0, 0)
    average_decay: float = _number(0.999, 0, 1)
    optimiser: str = _choice("adamw", "adamw", "adamw8bit", "muon")
    precision: str = _choice("float32", "float32", "bfloat16")
    gradient_checkpointing: bool = True
    compile: bool = False
    save_every: int = _number(250, 1)
    check_every: int = _number(250, 1)
    log_every: int = _number(25, 1)
    tensorboard: bool = False
    shard: bool = False

    def settings(self) -> Settings:
        return Settings(
            iterations=self.steps,
            rate=self.learning_rate,
            warmup=self.warmup,
            final_rate=self.final_rate,
            weight_decay=self.weight_decay,
            clip=self.gradient_clip,
            ema=self.average_decay,
            save_every=self.save_every,
            batch=self.batch,
            at_once=self.clips_at_once,
            betas=(self.adam_beta1, self.adam_beta2),
            autocast="bfloat16" if self.precision == "bfloat16" else "",
            optimiser=self.optimiser,
            log_every=self.log_every,
            tensorboard=self.tensorboard,
            shard=self.shard,
        )

    def known(self) -> KnownFrames:
        return KnownFrames(
            pattern=self.known_frames,
            factor=self.known_every,
            margin=self.known_margin,
            noise=self.known_noise,
            exact=self.known_exact,
            downscale=self.downscale,
            turn_round=self.turn_round,
        )

    def dropout(self) -> Dropout:
        return Dropout(self.drop_text, self.drop_all)


@dataclass(frozen=True)
class Recipe:
    """A whole recipe.

    base: family of the checkpoint; "" accepts any. start: "fresh" makes new layers, "given" continues existing
    ones, of any family that temporal_layers.formats reads. train: fresh layers to make, "all" or "attention".
    placement: of fresh temporal attention. extra_convolution: initial weights of the convolution that reads known
    frames, "zero" (Emu Video) or a "copy" of the checkpoint's first convolution. low_rank: rank of a motion LoRA to
    train instead of the layers; 0 trains the layers. prior_prompts: what the layers can do and must not forget, with
    {a|b} for choices. Before training, the layers make `prior_clips` videos of them, which are then trained on as well
    (see `prior`).
    prompts: captions of sample videos, made every `sample_every` steps (0: never) from first frames of the dataset.
    sample_steps: sampling steps of both.
    """

    title: str = ""
    base: str = ""
    seed: int = _number(0, 0, 2**63 - 1)
    start: str = _choice("fresh", "fresh", "given")
    train: str = _choice("all", "all", "attention")
    placement: str = _choice("per_transformer", "per_transformer", "per_block")
    extra_convolution: str = _choice("zero", "zero", "copy")
    low_rank: int = _number(0, 0, 256)
    save_as: str = _choice("float16", "float16", "bfloat16", "float32")
    prior_prompts: tuple[str, ...] = ()
    prior_clips: int = _number(100, 1, 100_000)
    prompts: tuple[str, ...] = ()
    sample_every: int = _number(0, 0)
    sample_steps: int = _number(25, 1, 1000)
    stages: tuple[Stage, ...] = (Stage(),)


def load_recipe(path: Path | str, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe: a TOML file, or the name of a shipped one. changes: overrides, "key=value" or "stage.2.key=value".

    Raises:
        ValueError: for an unknown key, a wrong type or value, or an impossible combination, with file and line.
    """
    path = shipped(str(path)) or Path(path)
    if not path.is_file():
        raise ValueError(f"There is no recipe {path}: name a TOML file, or one of {', '.join(names())}.")
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read ({error}): save it as UTF-8 text.") from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not TOML: {error}.") from None
    try:
        for change in changes:
            _change(values, change)
        return parse(values)
    except ValueError as error:
        raise ValueError(f"{path}{_line(text, error, changes)}: {error}") from None


def names() -> list[str]:
    """Return the names of the shipped recipes."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def shipped(name: str) -> Path | None:
    return SHIPPED / f"{name}.toml" if name in names() else None


def parse(values: Mapping[str, Any]) -> Recipe:
    """Return the recipe of these values, as TOML gives them. Errors: see `load_recipe`."""
    values = dict(values)
    stages = values.pop("stage", [{}])
    if not isinstance(stages, list) or not stages or not all(isinstance(stage, dict) for stage in stages):
        raise ValueError("stage is not a list of tables: write [[stage]] above the keys of each stage.")
    shared = {key: values.pop(key) for key in list(values) if key in get_type_hints(Stage)}
    settings, shared = _checked(Recipe, values), _checked(Stage, shared)
    checked = []
    for number, each in enumerate(stages, start=1):
        try:
            checked.append(Stage(**shared | _checked(Stage, each)))
            _check(checked[-1])
        except ValueError as error:
            name = each.get("name", shared.get("name", Stage.name))
            raise ValueError(f"stage {number} ({name}): {error}" if len(stages) > 1 else str(error)) from None
    recipe = Recipe(**settings, stages=tuple(checked))
    names = [stage.name.casefold() for stage in recipe.stages]
    if len({name + suffix for name in names for suffix in ENDINGS}) < len(names) * len(ENDINGS):
        raise ValueError(
            "Two stages have the same name, or one of them the other's with _raw, _lora or _image_model, so their "
            "files would have the same names: rename one stage."
        )
    if recipe.low_rank and recipe.start == "fresh":
        raise ValueError("low_rank needs existing layers: set start to given, or low_rank to 0.")
    if recipe.low_rank and len(recipe.stages) > 1:
        raise ValueError(
            "low_rank works with one stage, because NAME_lora.safetensors holds the change of one stage only: remove "
            "the other stages, or set low_rank to 0."
        )
    if recipe.prior_prompts and recipe.start == "fresh":
        raise ValueError("prior_prompts needs layers that know a motion: set start to given, or remove prior_prompts.")
    if recipe.prior_prompts and any(stage.role != "video" for stage in recipe.stages):
        raise ValueError("prior_prompts works for layers of the role video only: remove it.")
    if recipe.prior_prompts and any(stage.shard for stage in recipe.stages):
        raise ValueError("prior_prompts does not work with shard: set shard to false, or remove prior_prompts.")
    if recipe.sample_every and any(stage.shard for stage in recipe.stages):
        raise ValueError("sample_every does not work with shard: set one of them to 0 or false.")
    for stage in recipe.stages:
        if recipe.sample_every % stage.save_every:
            raise ValueError(
                f"sample_every {recipe.sample_every} is not a multiple of save_every {stage.save_every} (stage "
                f"{stage.name}): samples are made at checkpoints."
            )
    return recipe


def _checked(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    known = {f.name: f for f in fields(kind) if f.name != "stages"}
    types, result = get_type_hints(kind), {}
    for key, given in values.items():
        value = given
        if key not in known:
            raise ValueError(f"{key} is not a key of a recipe{_nearest(key)}.")
        wanted, limits = types[key], known[key].metadata
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value) if abs(value) < 10**300 else math.inf
        if key in TEXTS and isinstance(value, list) and all(isinstance(each, str) for each in value):
            value = tuple(value)
        if key in TEXTS and not isinstance(value, tuple):
            raise ValueError(f'{key} is {value!r}: write a list of texts, for example ["a cat runs"].')
        if key not in TEXTS and type(value) is not wanted:
            raise ValueError(f"{key} is {value!r}: write {_TYPES[wanted]}.")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{key} is {value}: write a finite number.")
        if "choices" in limits and value not in limits["choices"]:
            raise ValueError(f"{key} is {value!r}: use one of {', '.join(limits['choices'])}.")
        if "low" in limits and not limits["low"] <= value <= limits["high"]:
            raise ValueError(f"{key} is {value!r}: use a number from {limits['low']:g} to {limits['high']:g}.")
        result[key] = value
    return result


_TYPES = {int: "a whole number", float: "a number", bool: "true or false", str: 'a text in quotes, like "first"'}


def _check(stage: Stage) -> None:
    """Raise ValueError for combinations that cannot work."""
    if not re.fullmatch(r"\w[\w .-]*", stage.name):
        raise ValueError(
            f"name is {stage.name!r}: files are named after it, so use letters, digits, spaces, _ . and -."
        )
    if stage.zero_terminal_snr and stage.prediction != "v":
        raise ValueError(
            f"zero_terminal_snr needs prediction v, not {stage.prediction}: at the last timestep the noise that eps "
            "predicts is the input itself. Set prediction to v, or zero_terminal_snr to false."
        )
    if stage.drift_weight and stage.prediction != "v":
        raise ValueError(f"drift_weight needs prediction v, not {stage.prediction}: set it to 0.")
    if stage.drift_weight and stage.timestep_weights == "learned":
        raise ValueError(
            "timestep_weights learned does not weight the term against drift: set drift_weight to 0, or "
            "timestep_weights to equal."
        )
    if stage.drop_text + stage.drop_all > 1:
        raise ValueError(
            f"drop_text {stage.drop_text} and drop_all {stage.drop_all} add up to more than 1: lower one of them."
        )
    if stage.batch % stage.clips_at_once:
        raise ValueError(
            f"batch {stage.batch} is not a multiple of clips_at_once {stage.clips_at_once}: change one of them."
        )
    if stage.shard and stage.optimiser == "muon":
        raise ValueError("optimiser muon needs whole matrices: set shard to false, or optimiser to adamw.")
    if stage.role == "interpolation" and (stage.known_frames != "every n-th" or stage.known_every < 2):
        raise ValueError(
            'role interpolation needs known_frames "every n-th" and known_every of 2 or more, for example 4.'
        )
    if (stage.role == "super_resolution") != (stage.downscale > 1):
        raise ValueError(
            f"role {stage.role} and downscale {stage.downscale} do not fit: super_resolution needs a downscale of 2 "
            "or more, other roles 1."
        )
    if stage.role == "video" and stage.known_every:
        raise ValueError(
            'known_every works only with the role interpolation: set it to 0, so that "every n-th" draws n.'
        )
    if stage.known_every and stage.frames:
        given_positions(stage.frames, stage.known_every, stage.known_margin)


def _change(values: dict[str, Any], change: str) -> None:
    key, sign, text = change.partition("=")
    key, text = key.strip(), text.strip()
    if not sign or not key:
        raise ValueError(f'"{change}" is not of the form key=value, for example steps=500.')
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a word without quotes
    if not isinstance(values.get("stage", []), list):  # `parse` refuses it
        return
    table: Any = values
    if match := re.fullmatch(r"stage\.(\d+)\.(\w+)", key):
        stages, number, key = values.setdefault("stage", [{}]), int(match[1]), match[2]
        if not 1 <= number <= len(stages):
            raise ValueError(f"{change}: the recipe has {len(stages)} stages, counted from 1.")
        table = stages[number - 1]
    else:
        for stage in values.get("stage", []):
            stage.pop(key, None)
    table[key] = value


def _line(text: str, error: ValueError, changes: Sequence[str]) -> str:
    """Return ", line N" of the key that a message starts with, if its value is from the file."""
    found = re.match(r"(?:stage (\d+) \(.*?\): )?(\w+)", str(error))
    if not found or found[2] in {change.partition("=")[0].strip().rpartition(".")[2] for change in changes}:
        return ""
    lines = text.splitlines()
    tables = [number for number, line in enumerate(lines) if re.match(r"\s*\[\[", line)]
    places = [range(len(lines))]
    if found[1]:  # the key is in the stage, or above all of them
        edges = [*tables, len(lines)]
        places = [range(edges[int(found[1]) - 1], edges[int(found[1])]), range(edges[0])]
    for number in (number for place in places for number in place):
        if re.match(rf"\s*{re.escape(found[2])}\s*=", lines[number]):
            return f", line {number + 1}"
    return ""


def _nearest(key: str) -> str:
    from difflib import get_close_matches

    found = get_close_matches(key, [f.name for kind in (Recipe, Stage) for f in fields(kind)], 1)
    return f"; did you mean {found[0]}?" if found else ": leave it out"
