"""Training of temporal layers on a MODEL, for the node and the command: checks, stages, files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import torch
from torch import Tensor

from ..temporal_layers.backbones import backbone_of, find_anchors, identify_base
from ..temporal_layers.files import check_fits, read_info
from ..temporal_layers.info import KNOWN_FRAMES, LayersInfo
from ..temporal_layers.layers import TemporalLayers
from ..temporal_layers.noise import Discrete
from ..training.clips import Clips, Conds, ShardedClips, check_base
from ..training.distributed import ALONE, Processes
from ..training.loop import Progress, Result, optimiser_class
from ..training.low_rank import make_low_rank, merged
from ..training.prior import Joined
from ..training.recipe import Recipe, Stage
from ..training.samples import Samples, Sampling
from ..training.trainer import Run, stage_info, train_layers, warnings
from .fingerprint import fingerprint, fingerprint_of
from .injection import without_layers
from .prior import Layers, prior_clips
from .schedule import native_schedule
from .trainable_model import trainable
from .training_memory import check_memory

DISTILLED = ("lcm", "turbo", "lightning", "hyper", "dmd", "schnell", "distill")
"""Words in the file names of checkpoints that sample in a few steps."""


@dataclass(frozen=True)
class Trained:
    """Result of a training run: averaged weights, info, file and curves. stopped: whether the run ended early."""

    state_dict: dict[str, Tensor]
    info: LayersInfo
    file: Path
    result: Result
    stopped: bool


def train_recipe(
    model: comfy.model_patcher.ModelPatcher,
    recipe: Recipe,
    clips: Clips | Path,
    folder: Path,
    *,
    given: Layers | None = None,
    processes: Processes = ALONE,
    on_step: Callable[[Stage, Progress], None] | None = None,
    on_samples: Callable[[Samples, float], None] | None = None,
    encode: Callable[[str], Conds] | None = None,
    should_stop: Callable[[], bool] | None = None,
    echo: bool = True,
) -> Trained:
    """Train temporal layers by a recipe and write their files into `folder`. The MODEL is not changed.

    Args:
        clips: a dataset in memory, or a dataset folder; a stage's `dataset` is a folder in it.
        given: layers to start from, required by recipes with start = given.
        on_step: called with the stage and its progress after each step.
        on_samples: called with the sample videos that the recipe asks for, and their frame rate.
        encode: text encoder for the recipe's prompts. Without it captions of the dataset are used.

    Raises:
        ValueError: recipe, clips, layers and checkpoint do not match, or do not fit into memory.
        InterruptProcessingException: stopped between the videos of `prior_prompts`.
    """
    unet = model.model.diffusion_model
    base = {"name": identify_base(unet), "hash": fingerprint(unet, model)}
    state_dict, info = start(model, recipe, base["name"], given)
    warn_of_distilled(model)
    check_later_stages(folder, recipe.stages)
    datasets = checked_clips(model, recipe, clips, info, base)
    sampling = _sampling(recipe, encode, info)
    given_layers, prior = (state_dict, info), None
    result = None
    for number, stage in enumerate(recipe.stages):
        if number == len(datasets):  # its dataset did not exist before
            datasets.append(stage_clips(model, recipe, stage, clips=clips, before=info, base=base)[0])
        data = datasets[number]
        fresh = recipe.start == "fresh" and number == 0
        before = "fresh" if fresh else info.family if number == 0 else recipe.stages[number - 1].name
        settings = layers_settings(recipe, None if fresh else state_dict)
        run = Run(folder, recipe.title, recipe.seed, base, before, settings)
        if recipe.prior_prompts:
            if prior is None or _form(prior) != _form(data):
                prior = _prior(
                    model, recipe, given_layers, clips=data, encode=encode, folder=folder, processes=processes,
                    should_stop=should_stop,
                )  # fmt: skip
            data = Joined(data, prior)
        info = stage_info(info, data, stage, run)
        for warning in warnings(data, stage, info, fresh=fresh):
            logging.warning("Emu Video: %s", warning)
        result = None  # frees the weights of the stage before
        result = _train_stage(
            model,
            recipe,
            stage,
            (state_dict, info),
            clips=data,
            run=run,
            processes=processes,
            on_step=_for_stage(on_step, stage),
            on_samples=on_samples and (lambda samples, fps=info.fps: on_samples(samples, fps)),
            sampling=sampling,
            should_stop=should_stop,
            echo=echo,
        )
        state_dict = {key: value.cpu() for key, value in merged(result.average["layers"]).items()}
        info = replace(info, training={**info.training, "steps": result.step})
        if result.stopped:
            break
    assert result is not None
    return Trained(state_dict, info, folder / f"{stage.name}.safetensors", result, result.stopped)


def checked_clips(
    model: comfy.model_patcher.ModelPatcher,
    recipe: Recipe,
    clips: Clips | Path,
    info: LayersInfo,
    base: dict[str, str],
) -> list[Clips]:
    """Return the clips of each stage, all checked before the first one is trained. info: of the layers at the start.

    A later stage whose dataset does not exist yet ends the list.

    Raises:
        ValueError: one of the stages cannot be trained.
    """
    found = []
    for number, stage in enumerate(recipe.stages):
        if number and isinstance(clips, Path) and not (dataset := clips / stage.dataset).exists():
            logging.warning("Emu Video: %s, the dataset of stage %s, does not exist yet.", dataset, stage.name)
            break
        data, info = stage_clips(model, recipe, stage, clips=clips, before=info, base=base)
        found.append(data)
    return found


def stage_clips(
    model: comfy.model_patcher.ModelPatcher,
    recipe: Recipe,
    stage: Stage,
    *,
    clips: Clips | Path,
    before: LayersInfo,
    base: dict[str, str],
) -> tuple[Clips, LayersInfo]:
    """Return the clips of a stage and the info of its result. before: info of the layers that it starts from.

    Raises:
        ValueError: the stage cannot be trained.
    """
    data = _clips(clips, stage)
    check_base(data, base)
    info = stage_info(before, data, stage, Run(Path(), recipe.title, recipe.seed, base, ""))
    check_checkpoint(model, stage, info)
    if recipe.prior_prompts:
        check_prediction(before, info, stage)
    check_sizes(data, info)
    check_memory(model, recipe, stage, info, data)
    optimiser_class(stage.settings())
    return data, info


def check_later_stages(folder: Path, stages: Sequence[Stage]) -> None:
    """Raise ValueError if a stage would be trained further from which a later one has begun.

    Its checkpoint would be replaced, and then that of the later stage could not be resumed.
    """
    for stage, *later in (stages[number:] for number in range(len(stages))):
        path = folder / f"{stage.name}.safetensors"
        begun = next((each.name for each in later if (folder / f"{each.name}.pt").exists()), None)
        if begun and path.exists() and (steps := read_info(path).training["steps"]) < stage.steps:
            raise ValueError(
                f"Stage {stage.name} has {steps} of {stage.steps} steps, but stage {begun} has begun from it. Move the "
                f"files {begun}.* out of {folder} to train it again, or set steps of stage {stage.name} to {steps}."
            )


def _train_stage(
    model: comfy.model_patcher.ModelPatcher,
    recipe: Recipe,
    stage: Stage,
    before: Layers,
    *,
    clips: Clips,
    run: Run,
    **options: Any,
) -> Result:
    """Train a copy of the layers `before` by one stage. options: see `train_layers`."""
    state_dict, info = before
    with torch.inference_mode(False):
        layers = TemporalLayers.of(info)
        layers.load_state_dict({key: value.clone().float() for key, value in state_dict.items()})
        if recipe.low_rank:
            make_low_rank(layers, info, recipe.low_rank, recipe.seed)
    with trainable(
        model,
        layers,
        dtype=torch.bfloat16 if stage.precision == "bfloat16" else torch.float32,
        checkpointing=stage.gradient_checkpointing,
        compiled=stage.compile,
    ) as network:
        return train_layers(layers, network, clips, stage, info, run, save_as=getattr(torch, recipe.save_as), **options)


def check_prediction(before: LayersInfo, after: LayersInfo, stage: Stage) -> None:
    """Refuse prior_prompts in a stage that changes what the layers predict. Their videos have the old prediction."""
    if any(getattr(before, name) != getattr(after, name) for name in ("prediction", "zero_terminal_snr", "betas")):
        raise ValueError(
            f"prior_prompts teaches layers by what they predicted before, {before.prediction}, but stage {stage.name} "
            "trains them for another prediction or noise schedule: set prediction and zero_terminal_snr as the layers "
            "have them, or remove prior_prompts."
        )


def layers_settings(recipe: Recipe, state_dict: Mapping[str, Tensor] | None) -> dict[str, Any]:
    """Return what the layers at the start of a stage depend on, so that its checkpoint is not resumed with others.

    state_dict: their weights, or None for fresh layers.
    """
    made = {name: getattr(recipe, name) for name in ("train", "placement", "extra_convolution", "low_rank")}
    return made | {"layers": "fresh" if state_dict is None else fingerprint_of(state_dict)[:12]}


def start(model: comfy.model_patcher.ModelPatcher, recipe: Recipe, base: str, given: Layers | None) -> Layers:
    """Return the layers that a recipe starts from. Raises ValueError if they are missing or cannot be trained."""
    unet = model.model.diffusion_model
    if recipe.base and recipe.base != base:
        raise ValueError(
            f'The recipe "{recipe.title}" is for {recipe.base}, but the model is {base}: use a {recipe.base} '
            f"checkpoint, or a recipe for {base}."
        )
    if recipe.start == "given":
        if given is None:
            raise ValueError(
                f'The recipe "{recipe.title}" continues temporal layers, but there are none: connect the model of Load '
                "Temporal Layers (on the command line --layers FILE), or set start to fresh."
            )
        state_dict, info = given
        check_fits(unet, info, f"the layers to start from ({info.family})")
        if info.conditioning_channels and info.conditioning != KNOWN_FRAMES:
            raise ValueError(
                f"These temporal layers ({info.family}) do not read known frames, so the trainer cannot make their "
                f"conditioning: start from AnimateDiff, ModelScope, FancyVideo or Emu Video layers."
            )
        return dict(state_dict), info
    backbone = backbone_of(base)
    anchors = find_anchors(unet, recipe.placement)
    if recipe.train == "attention":
        anchors = tuple(a for a in anchors if a.kind == "attention" or a.name == backbone.input_anchor)
    prediction, betas = native_schedule(without_layers(model))
    info = LayersInfo(
        base=base,
        role="video",
        anchors=anchors,
        frames=1,
        fps=1.0,
        conditioning_channels=backbone.latent_channels + 1,
        noise=Discrete(**betas, prediction=prediction),  # pyright: ignore
    )
    layers = TemporalLayers.of(info)
    state_dict = layers.fresh_state_dict(recipe.seed)
    if recipe.extra_convolution == "copy":
        layers.load_state_dict(state_dict)
        layers.read_known_frames_with(unet.get_submodule(backbone.input_anchor).weight)
        state_dict = layers.state_dict()
    return state_dict, info


def check_checkpoint(model: comfy.model_patcher.ModelPatcher, stage: Stage, info: LayersInfo) -> None:
    """Raise ValueError for a checkpoint that predicts v under a stage for eps. info: see `stage_info`."""
    prediction, _ = native_schedule(without_layers(model))
    if info.prediction == "eps" and prediction == "v":
        raise ValueError(
            f"Stage {stage.name} trains layers for eps, but this {info.base} checkpoint predicts v: set prediction to "
            "v, or use an eps checkpoint."
        )


def warn_of_distilled(model: comfy.model_patcher.ModelPatcher) -> None:
    """Log a warning if the name of the checkpoint's file says that it is distilled."""
    name = file_name(model)
    if any(word in name.lower() for word in DISTILLED):
        logging.warning(
            "Emu Video: %s looks like a distilled checkpoint (few steps). Its predictions are too poor for training: "
            "train on the undistilled checkpoint, and use the layers with both.",
            name,
        )


def file_name(model: comfy.model_patcher.ModelPatcher) -> str:
    """Return the name of the checkpoint's file, or "" if ComfyUI does not know it."""
    arguments = (getattr(model, "cached_patcher_init", None) or (None, ()))[1]
    return Path(arguments[0]).name if arguments and isinstance(arguments[0], str) else ""


def check_sizes(clips: Clips, info: LayersInfo) -> None:
    """Raise ValueError if the latents' channels differ from those of the layers' known frames."""
    channels, expected = clips.shape(0)[1], backbone_of(info.base).latent_channels
    if channels != expected or info.conditioning_channels not in (0, channels + 1):
        raise ValueError(
            f"The clips' latents have {channels} channels, the model takes {expected}: encode them with the VAE "
            "of this checkpoint."
        )


def _sampling(recipe: Recipe, encode: Callable[[str], Conds] | None, info: LayersInfo) -> Sampling | None:
    if recipe.prompts and not encode:
        logging.warning("Emu Video: prompts of sample videos need a CLIP, so captions of the dataset are used.")
    if recipe.prompts and not any(0 < recipe.sample_every <= stage.steps for stage in recipe.stages):
        logging.warning(
            "Emu Video: prompts have no effect, because no sample videos are made: set sample_every to at most the "
            "steps of a stage."
        )
    if not recipe.sample_every:
        return None
    captions = recipe.prompts if encode else ()
    texts = tuple(encode(prompt) for prompt in captions) if encode else ()
    return Sampling(recipe.sample_every, recipe.sample_steps, texts, captions, info.guidance)


def _prior(
    model: comfy.model_patcher.ModelPatcher,
    recipe: Recipe,
    layers: Layers,
    *,
    clips: Clips,
    encode: Callable[[str], Conds] | None,
    folder: Path,
    processes: Processes,
    should_stop: Callable[[], bool] | None,
) -> Clips:
    if encode is None:
        raise ValueError("prior_prompts needs a text encoder: connect a CLIP, or use a checkpoint that contains one.")
    if not processes.is_first:
        processes.wait()  # the first process writes the files that the others read
    videos = prior_clips(model, recipe, layers, clips=clips, encode=encode, folder=folder, should_stop=should_stop)
    if processes.is_first:
        processes.wait()
    return videos


def _form(clips: Clips) -> tuple:
    return clips.fps, clips.shape(0)


def _clips(clips: Clips | Path, stage: Stage) -> Clips:
    if not isinstance(clips, Path):
        if stage.dataset:
            raise ValueError(
                f"Stage {stage.name} of the recipe uses the dataset {stage.dataset}, so connected latents do not "
                "work: give the name of a dataset instead."
            )
        return clips
    return ShardedClips(clips / stage.dataset if stage.dataset else clips)


def _for_stage(on_step: Callable[[Stage, Progress], None] | None, stage: Stage) -> Callable[[Progress], None] | None:
    return None if on_step is None else lambda progress: on_step(stage, progress)
