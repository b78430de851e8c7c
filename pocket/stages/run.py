"""One run of a recipe: its folder, and cache keys of everything in it.

The file name of each result contains its key: a hash of its part of the recipe, of its code, and of the keys of its
inputs. So results of a changed recipe or program are not reused.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from dataclasses import asdict, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...temporal_layers.files import read_info
from ...training.checkpoint import written_whole
from ..model.autoencoder import Autoencoder
from ..model.checkpoint import denoiser_weights, frozen_autoencoder, load_autoencoder
from ..model.denoiser import Denoiser
from ..recipe import AnyStage, AutoencoderStage, ClipSet, DecoderStage, ImageStage, LayersStage, Recipe, TextStage

States = dict[str, Tensor]
S = TypeVar("S", bound=AnyStage)
METADATA_KEY = "emu_video_pocket"
FOLDER = Path("runs/pocket")
EXPORTED = ("video", "interpolation", "super_resolution")
POCKET = Path(__file__).parent.parent
WORLD = ("world/vocabulary.py", "world/motions.py", "world/scene.py", "world/render.py")
CODE = {
    "autoencoder": ("model/autoencoder.py", "stages/autoencoder.py", "stages/crops.py"),
    "text": ("model/text_encoder.py", "stages/text.py"),
    "image": (
        "model/text_encoder.py",
        "model/unet.py",
        "model/denoiser.py",
        "stages/image.py",
        "stages/geometry.py",
        "stages/phrase_probe.py",
        "stages/word_probe.py",
    ),
    "layers": ("stages/layers.py", "stages/large_clips.py"),
}
"""Source files of each stage, below pocket/. The training package is not included, because its loop checks what it can
resume."""


class Run:
    """A run: the results of `recipe` in `folder`.

    checkpoint: a pocket checkpoint whose autoencoder, text encoder and image model are used instead of training them.
    device: that trains. Random numbers differ between devices, so the weights do, too, although the keys do not.
    """

    def __init__(
        self, folder: Path, recipe: Recipe, checkpoint: Path | None = None, device: torch.device | str = "cpu"
    ):
        self.folder, self.recipe, self.checkpoint, self.device = folder, recipe, checkpoint, torch.device(device)
        folder.mkdir(parents=True, exist_ok=True)

    @cached_property
    def keys(self) -> dict[str, str]:
        """Cache keys: stage -> key, and "clips" -> key of the code that makes clips."""
        keys: dict[str, str] = {}
        given = key_of(hashlib.sha256(self.checkpoint.read_bytes()).hexdigest()) if self.checkpoint else ""
        for name, made in self.recipe.stages.items():
            if given and not isinstance(made, LayersStage):
                keys[name] = given
            elif isinstance(made, AutoencoderStage):
                keys[name] = key_of(made, code_of(*WORLD, *CODE["autoencoder"]))
            elif isinstance(made, DecoderStage):
                keys[name] = key_of(made, keys[made.layers], code_of("stages/decoder.py"))
            elif isinstance(made, TextStage):
                keys[name] = key_of(made, keys["clips"], code_of(*CODE["text"]))
            elif isinstance(made, ImageStage):
                keys[name] = key_of(made, self.recipe.shape, keys[made.start], code_of(*CODE["image"]))
            else:
                start, code = keys.get(made.start, ""), code_of(*CODE["layers"])
                keys[name] = key_of(made, start, keys["clips"], keys[made.image], code)
            if name == "autoencoder":
                keys["clips"] = key_of(keys[name], code_of(*WORLD, "stages/clips.py"))
        return keys

    def stage(self, name: str, kind: type[S]) -> S:
        """Return a stage of the recipe, which has to be of this kind."""
        stage = self.recipe.stages[name]
        assert isinstance(stage, kind)
        return stage

    @property
    def needed(self) -> tuple[str, ...]:
        """Return the stages of this run in the order of their training, without those that the checkpoint replaces."""
        stages = self.recipe.stages
        return tuple(name for name in stages if not self.checkpoint or isinstance(stages[name], LayersStage))

    def name(self, stage: str) -> str:
        """Return the name of the files of a stage, without extension."""
        return f"{stage}-{self.keys[stage]}"

    def path(self, stage: str) -> Path:
        """Return the path of the averaged weights of a finished stage."""
        return self.folder / f"{self.name(stage)}.safetensors"

    def clips_path(self, clips: ClipSet) -> Path:
        return self.folder / f"clips-{clips.seed}-{key_of(clips, self.keys['clips'])}.safetensors"

    def is_done(self, stage: str) -> bool:
        """Return whether a stage has a result, in the run or in the checkpoint."""
        made = self.recipe.stages[stage]
        if not isinstance(made, LayersStage):
            return self.checkpoint is not None or self.path(stage).exists()
        # The trainer writes layers at every checkpoint, not only at the end.
        path = self.path(stage)
        return path.exists() and read_info(path).training["steps"] >= made.stage.steps

    def save(self, stage: str, weights: States) -> None:
        """Write the result of a stage with the part of the recipe that made it."""
        made = {"stage": stage, "key": self.keys[stage], "recipe": plain(self.recipe.stages[stage])}
        save_tensors(self.path(stage), weights, made)

    def load(self, stage: str) -> States:
        """Return the averaged weights of a stage. Raises FileNotFoundError if it is not done."""
        if not self.path(stage).exists():
            raise FileNotFoundError(
                f"{self.path(stage)} does not exist: the stage {stage} of the recipe {self.recipe.name} is not done. "
                "Run python run.py pocket make."
            )
        return load_file(self.path(stage))

    def has_begun(self, stage: str) -> bool:
        """Return whether this run has a checkpoint or a result of a stage."""
        return self.path(stage).exists() or (self.folder / f"{self.name(stage)}.pt").exists()

    def so_far(self, stage: str, module: str) -> States:
        """Return the averaged weights of a stage at its last checkpoint.

        module: name of one of the modules that are trained together.
        """
        state = torch.load(self.folder / f"{self.name(stage)}.pt", map_location="cpu", weights_only=True)
        named = {key.partition(".")[2]: v for key, v in state["average"].items() if key.startswith(f"{module}.")}
        return {**state["modules"][module], **named}

    def autoencoder(self, stage: str = "autoencoder") -> Autoencoder:
        """Return the frozen autoencoder. Other stages have another decoder."""
        model = load_autoencoder(self.checkpoint) if self.checkpoint else frozen_autoencoder(self.load(stage))
        return model.to(self.device)

    def image_model(self, stage: str = "image") -> Denoiser:
        """Return the frozen image model of a stage, rounded to half precision as it is exported."""
        model = Denoiser(self.recipe.shape)
        weights = denoiser_weights(load_file(self.checkpoint)) if self.checkpoint else self.load(stage)
        model.load_state_dict({key: tensor.half().float() for key, tensor in weights.items()})
        return model.requires_grad_(False).to(self.device)


def save_tensors(path: Path, tensors: States, made: dict[str, Any]) -> None:
    """Write tensors with the settings that made them, atomically."""
    with written_whole(path) as temporary:
        contiguous = {key: tensor.detach().contiguous() for key, tensor in tensors.items()}
        save_file(contiguous, temporary, metadata={METADATA_KEY: json.dumps(made)})


def read_made(path: Path) -> dict[str, Any]:
    """Return the settings that `save_tensors` wrote into a file."""
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()[METADATA_KEY])


def plain(value: Any) -> Any:
    """Convert dataclasses and collections to plain JSON values."""
    return json.loads(json.dumps(asdict(value) if is_dataclass(value) and not isinstance(value, type) else value))


def key_of(*parts: Any) -> str:
    """Return a cache key of values and dataclasses."""
    text = json.dumps([plain(each) for each in parts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def code_of(*files: str) -> str:
    """Return a key of the program in files below pocket/. Comments, formatting and docstrings do not change it."""
    return program_key(*((POCKET / file).read_text("utf-8") for file in files))


SHOW_EMPTY: dict[str, Any] = {"show_empty": True} if sys.version_info >= (3, 13) else {}
"""Options of ast.dump with which Python 3.13 writes what earlier ones write."""


def program_key(*sources: str) -> str:
    digest = hashlib.sha256()
    for source in sources:
        digest.update(ast.dump(without_docstrings(ast.parse(source)), **SHOW_EMPTY).encode())
    return digest.hexdigest()[:12]


def without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if getattr(node, "type_params", None) == []:
            del node.type_params  # pyright: ignore[reportAttributeAccessIssue]  (since Python 3.12)
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [each for each in body if not is_text(each)]  # pyright: ignore[reportAttributeAccessIssue]
    return tree


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
