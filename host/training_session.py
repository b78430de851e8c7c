"""A training run inside ComfyUI: clips from node inputs, progress bar, preview, Cancel, and the result's file."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.utils
import folder_paths
import torch
from PIL import Image
from torch import Tensor

from ..training.checkpoint import written_whole
from ..training.clips import INDEX, Clips, Conds, MemoryClips
from ..training.log import curves
from ..training.loop import Progress
from ..training.recipe import Recipe, Stage, load_recipe, names
from ..training.samples import Samples
from ..training.trainer import CURVES
from .folders import TEMPORAL_LAYERS, output_folder
from .injection import KEY, inject, layers_info
from .prepare import dataset_folder, tokens
from .training import Layers, Trained, train_recipe
from .training_samples import decode, save_samples

RUNS = "training"
PREVIEW = 512  # pixels along the longer side


@dataclass(frozen=True)
class Outcome:
    """Node outputs: MODEL with the layers, their file in models/temporal_layers, curves and last samples as IMAGE."""

    model: comfy.model_patcher.ModelPatcher
    file: str
    curves: Tensor
    samples: Tensor


def train_in_session(
    model: comfy.model_patcher.ModelPatcher,
    recipe: Recipe,
    clips: Clips | Path,
    name: str,
    *,
    clip: comfy.sd.CLIP | None = None,
    vae: comfy.sd.VAE | None = None,
) -> Outcome:
    """Train by a recipe and put the layers into models/temporal_layers/NAME.safetensors.

    Cancel saves a checkpoint first; the same inputs continue from it. clip, vae: for sample videos.

    Raises:
        ValueError: see `train_recipe`.
        InterruptProcessingException: the user pressed Cancel.
    """
    folder = run_folder(name)
    check_target(published(name), folder)
    steps = sum(stage.steps for stage in recipe.stages)
    bar, sheet, cancelled = comfy.utils.ProgressBar(steps), torch.zeros(1, 1, 1, 3), False

    def on_step(stage: Stage, progress: Progress) -> None:
        before = sum(each.steps for each in recipe.stages[: recipe.stages.index(stage)])
        picture = None
        if progress.done % stage.log_every == 0:
            picture = ("PNG", Image.fromarray(curves(progress.log.rows, CURVES)), PREVIEW)
        try:
            bar.update_absolute(before + progress.done, steps, picture)
        except comfy.model_management.InterruptProcessingException:  # raised by the server's progress bar; save first
            nonlocal cancelled
            cancelled = True

    def on_samples(samples: Samples, fps: float) -> None:
        nonlocal sheet
        sheet = save_samples(folder, decode(model, vae, samples.latents), samples, fps)

    trained = train_recipe(
        model,
        recipe,
        clips,
        folder,
        given=given_layers(model),
        on_step=on_step,
        on_samples=on_samples,
        encode=None if clip is None else lambda text: encoded(clip, text),
        should_stop=lambda: cancelled or comfy.model_management.processing_interrupted(),
        echo=False,
    )
    file = publish(trained, name)
    comfy.model_management.throw_exception_if_processing_interrupted()
    if cancelled:
        raise comfy.model_management.InterruptProcessingException
    picture = torch.from_numpy(curves(trained.result.log.rows, CURVES)).float()[None] / 255
    return Outcome(inject(model, trained.state_dict, trained.info, file), file, picture, sheet)


def run_folder(name: str) -> Path:
    """Return the folder of a run, see `output_folder`."""
    return output_folder(RUNS, name, "temporal layers", "my_motion")


def published(name: str) -> Path:
    """Return the path of a run's layers in models/temporal_layers."""
    return Path(folder_paths.models_dir) / TEMPORAL_LAYERS / f"{name.strip()}.safetensors"


def check_target(file: Path, folder: Path) -> None:
    """Refuse to train if the layers cannot be written to `file`, or would replace a file that this run did not make.

    Raises:
        ValueError: for an existing file without a run in `folder`, or a folder that cannot be written.
    """
    if file.exists() and not folder.exists():
        raise ValueError(
            f"models/temporal_layers has a file {file.name} already, which this run would replace: choose another name."
        )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise ValueError(
            f"The trained layers cannot be saved in {file.parent} ({error.strerror}): make it a folder that can be "
            "written."
        ) from None


def publish(trained: Trained, name: str) -> str:
    """Copy the averaged layers to models/temporal_layers; returns the name that loaders list.

    Raises ValueError if the file of an earlier run is in use: Windows does not replace a file that a MODEL reads from.
    """
    target = published(name)
    try:
        with written_whole(target) as unfinished:
            shutil.copyfile(trained.file, unfinished)
    except PermissionError:
        raise ValueError(
            f"The layers are trained and are in {trained.file}, but {target} is in use or read-only. Unload models and "
            "clear the node cache (Edit menu), or restart ComfyUI, then queue again: nothing is trained twice."
        ) from None
    return str(target.relative_to(Path(folder_paths.models_dir) / TEMPORAL_LAYERS))


def given_layers(model: comfy.model_patcher.ModelPatcher) -> Layers | None:
    """Return the temporal layers of a MODEL as in their file, or None if it has none.

    Raises ValueError for layers with a motion LoRA.
    """
    info = layers_info(model)
    if info is None:
        return None
    patcher = model.get_additional_models_with_key(KEY)[0]
    if patcher.patches:
        raise ValueError(
            "These temporal layers have a motion LoRA, which training would lose: connect the model of Load Temporal "
            "Layers without Load Motion LoRA."
        )
    assert patcher.cached_patcher_init is not None  # set by host.injection.load_patcher
    return patcher.cached_patcher_init[1][0], info


def recipe_names() -> list[str]:
    return names()


def session_recipe(name: str, *, steps: int, learning_rate: float, seed: int, prompts: str, settings: str) -> Recipe:
    """Return a shipped recipe with a node's overrides; 0 and "" keep its values. settings: lines of key = value."""
    changes = [line.strip() for line in settings.splitlines() if line.strip()]
    changes += [f"steps = {steps}"] * (steps > 0) + [f"learning_rate = {learning_rate!r}"] * (learning_rate > 0)
    lines = tuple(line.strip() for line in prompts.splitlines() if line.strip())
    recipe = load_recipe(name, [*changes, f"seed = {seed}"])
    return replace(recipe, prompts=lines) if lines else recipe


def session_clips(
    model: comfy.model_patcher.ModelPatcher,
    dataset: str,
    latents: list[dict[str, Any]],
    conditioning: list[list],
    *,
    clip: comfy.sd.CLIP | None,
    fps: float,
) -> Clips | Path:
    """Return the clips of a node: the folder of a dataset by name or path, or connected latents."""
    if dataset.strip() and latents:
        raise ValueError("Both a dataset and latents are given: empty dataset, or disconnect latents.")
    if dataset.strip():
        return _folder_of(dataset)
    if not latents or not conditioning:
        raise ValueError(
            "There are no clips: write the name of a dataset that Prepare Clips made, or connect latents and "
            "conditioning of Make Training Dataset."
        )
    if clip is None:
        raise ValueError("Connected latents need a CLIP to encode the empty text for guidance: connect clip.")
    return listed_clips(model, latents, conditioning, encoded(clip, ""), fps)


def dataset_stamp(dataset: str) -> tuple[int, int] | None:
    """Return modification time and size of a dataset's index, which change when it is prepared again."""
    if not dataset.strip():
        return None
    try:
        index = _folder_of(dataset) / INDEX
    except ValueError:  # the node itself says what is wrong
        return None
    if not index.is_file():
        return None
    return index.stat().st_mtime_ns, index.stat().st_size


def _folder_of(dataset: str) -> Path:
    """Return the folder of a dataset by name or path."""
    path = Path(dataset.strip().strip('"')).expanduser()
    return path if path.is_absolute() else dataset_folder(dataset)


def listed_clips(
    model: comfy.model_patcher.ModelPatcher,
    latents: list[dict[str, Any]],
    conditioning: list[list],
    null: Conds,
    fps: float,
) -> MemoryClips:
    """Return clips from one LATENT [T, C, h, w] each, in the scale of the VAE, and one CONDITIONING each or for all."""
    if len(conditioning) not in (1, len(latents)):
        raise ValueError(
            f"There are {len(latents)} clips, but {len(conditioning)} conditionings: connect one conditioning for "
            f"each clip, or one for all."
        )
    clips = []
    for number, latent in enumerate(latents, start=1):
        samples = latent["samples"]
        if samples.ndim != 4 or len(samples) < 2:
            raise ValueError(
                f"Clip {number} is not a video: its latent has the shape {list(samples.shape)}, but a clip is the "
                "frames of one video, [frames, channels, height, width], 2 or more."
            )
        clips.append(model.model.latent_format.process_in(samples.clone().float()))
    texts = [_conds(each) for each in conditioning]
    state = hashlib.sha256()
    for tensor in (*clips, *(text["cross_attn"] for text in texts)):
        state.update(tensor.cpu().contiguous().numpy().tobytes())
    index = [0] * len(clips) if len(texts) == 1 else range(len(clips))
    return MemoryClips(clips, texts, null, fps=fps, text_index=index, key=state.hexdigest())


def encoded(clip: comfy.sd.CLIP, text: str) -> Conds:
    """Return the text as `Prepare Clips` encodes captions."""
    return _conds(clip.encode_from_tokens_scheduled(tokens(clip, text)))


def _conds(conditioning: list) -> Conds:
    embedding, options = conditioning[0]
    more = {name: value[0].clone() for name, value in options.items() if isinstance(value, Tensor) and len(value) == 1}
    return {"cross_attn": embedding[0].clone().float(), **more}
