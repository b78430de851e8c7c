"""Training of temporal layers on a frozen image model: one stage of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..diffusion.schedule import Schedule
from ..temporal_layers.files import save_layers
from ..temporal_layers.info import LayersInfo
from ..temporal_layers.layers import TemporalLayers
from .ahead import Ahead
from .checkpoint import disk_full_named, written_whole
from .checks import check
from .clips import Batches, Clips, Conds, hold_out, mixed_seed
from .distributed import ALONE, Processes
from .log import Figure, curves, save_picture, unless_open
from .loop import NotFinite, Progress, Result, States, train
from .low_rank import merged, motion_lora
from .objective import Objective, Sample
from .prior import Joined, Teacher
from .recipe import Stage
from .samples import Samples, Sampling
from .task import Network, Task
from .timestep_weights import TimestepWeights

CURVES = ("loss", "check_loss", "check_shuffled")
FRESH_CLIPS, FRESH_STEPS = 1000, 2000


@dataclass(frozen=True)
class Run:
    """Run-specific settings of a stage, written to the result's metadata.

    folder: output folder. title: title of the recipe. base: {"name": family, "hash": hash of the weights}. start:
    description of the layers at the start. settings: further settings that identify the run.
    """

    folder: Path
    title: str
    seed: int
    base: Mapping[str, str]
    start: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def train_layers(  # noqa: PLR0917 (all six belong to every stage)
    layers: TemporalLayers,
    network: Network,
    clips: Clips,
    stage: Stage,
    info: LayersInfo,
    run: Run,
    *,
    processes: Processes = ALONE,
    save_as: torch.dtype = torch.float32,
    on_step: Callable[[Progress], None] | None = None,
    on_samples: Callable[[Samples], None] | None = None,
    sampling: Sampling | None = None,
    should_stop: Callable[[], bool] | None = None,
    image_model: nn.Module | None = None,
    echo: bool = True,
) -> Result:
    """Train `layers` by one stage of a recipe and write `run.folder`/NAME.safetensors after each checkpoint.

    The same folder has NAME_raw.safetensors (the weights without averaging), NAME.pt (to resume), NAME.csv and
    NAME.png, and for layers of `low_rank` NAME_lora.safetensors.

    Args:
        info: metadata of the layers, completed by `stage_info`.
        save_as: precision of the files.
        sampling: sample videos to make at checkpoints; `on_samples` is called with them.
        image_model: the part of the image model to train along with the layers, instead of a frozen one. Its averaged
            weights are written to NAME_image_model.safetensors.
        on_step, should_stop, echo: see `loop.train`.

    Raises:
        ValueError: the loss is not a finite number (the message names step and clips), or the run folder has layers
            without the checkpoint to continue from.
    """
    task = Task(network, stage_objective(stage, info), clips, info.conditioning_channels > 0, _device(layers))
    weighted = task
    trained: dict[str, nn.Module] = {"layers": layers}
    if image_model is not None:
        trained["image_model"] = image_model
    if stage.timestep_weights == "learned":
        trained["timestep_weights"] = weights = TimestepWeights(len(task.objective.schedule)).to(task.device)
        weighted = replace(task, weights=weights)
    teacher = Teacher(layers, task) if isinstance(clips, Joined) else None
    training, held = hold_out(clips, stage.held_out, run.seed)
    batches = Batches(clips, training, batch=stage.batch, seed=run.seed)
    checked = (held or training)[:8]
    first = processes.share(stage.batch, stage.clips_at_once)[0]
    path, raw_path = (run.folder / f"{stage.name}{which}.safetensors" for which in ("", "_raw"))
    if path.exists() and not path.with_suffix(".pt").exists():
        raise ValueError(
            f"{path} exists, but the checkpoint to continue it, {stage.name}.pt, is gone. Training would begin again "
            "and replace the file: move it elsewhere, or choose another run folder."
        )

    def draw(step: int, positions: range) -> tuple[list[Sample], list[Conds], list[int]]:
        drawn, texts, prior = [], [], []
        for place, position in enumerate(positions):
            clip = clips[batches[step][position]]
            drawn.append(task.draw(clip, mixed_seed(run.seed, step, position)))
            texts.append(clip.conditioning(None if drawn[-1].has_text else clips.null))
            prior += [place] * clip.is_prior
        return drawn, texts, prior

    ahead = Ahead(draw)
    inputs = draw if task.device.type == "cpu" else ahead

    def loss(step: int, positions: range) -> tuple[Tensor, Mapping[str, Figure]]:
        drawn, texts, prior = inputs(step, positions)
        if teacher and prior:
            taught = teacher.taught([drawn[place] for place in prior], [texts[place] for place in prior])
            for place, sample in zip(prior, taught, strict=True):
                drawn[place] = sample
        value, errors = weighted.predict(drawn, texts)
        figures = _figures(task.objective, drawn, errors)
        if (step + 1) % stage.check_every == 0 and positions == first and (processes.is_first or stage.shard):
            with torch.no_grad():
                figures |= check(task, checked)
        return value, figures

    def saved(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {key: weight.to(save_as) for key, weight in merged(weights).items()}

    def check_saved(step: int, averaged: States, raw: States) -> None:
        for weights in (averaged["layers"], raw["layers"]):
            for key, weight in saved(weights).items():
                if not weight.isfinite().all():
                    kind = str(save_as).removeprefix("torch.")
                    raise ValueError(
                        f"After step {step}, {key} has values that {kind} cannot hold. {_advice(path, stage)}"
                    )

    def save(step: int, averaged: States, raw: States) -> None:
        done = replace(info, training={**info.training, "steps": step})
        with disk_full_named(run.folder):
            save_layers(raw_path, saved(raw["layers"]), done)
        if lora := motion_lora(averaged["layers"], info):
            with written_whole(path.with_name(f"{stage.name}_lora.safetensors")) as temporary:
                save_file(lora, temporary)
        if image_model is not None:
            with written_whole(path.with_name(f"{stage.name}_image_model.safetensors")) as temporary:
                save_file({key: weight.contiguous() for key, weight in averaged["image_model"].items()}, temporary)
        with disk_full_named(run.folder):
            save_layers(path, saved(averaged["layers"]), done)  # last: with it, all files of this step are there
        if sampling and on_samples and step % sampling.every == 0:
            own = {key: weight.clone() for key, weight in raw["layers"].items()}  # raw are views of the weights
            layers.load_state_dict(averaged["layers"])
            with torch.autocast(task.device.type, torch.bfloat16, enabled=stage.precision == "bfloat16"):
                videos = sampling.make(task, checked, stage.name, step, should_stop)
            layers.load_state_dict(own)
            if videos:
                on_samples(videos)

    def stepped(progress: Progress) -> None:
        if progress.done % stage.log_every == 0 or progress.done == progress.steps:
            with unless_open(picture := run.folder / f"{stage.name}.png"):
                save_picture(picture, curves(progress.log.rows, CURVES))
        if on_step:
            on_step(progress)

    try:
        return train(
            trained,
            loss,
            stage.settings(),
            run.folder,
            stage.name,
            run=_identity(stage, run, clips) | ({} if image_model is None else {"image_model": "trained"}),
            processes=processes,
            on_step=stepped,
            before_save=check_saved,
            on_save=save,
            should_stop=should_stop,
            echo=echo,
        )
    except NotFinite as error:
        positions = error.positions or range(stage.batch)
        captions = "; ".join(f'"{clips.caption(batches[error.step][p])}"' for p in positions)
        raise ValueError(f"{error} Its clips: {captions}. {_advice(path, stage)}") from None
    finally:
        ahead.close()


def _advice(path: Path, stage: Stage) -> str:
    """Return what to do about values that are not finite. A checkpoint accepts no other learning rate."""
    changes = (
        f"remove bad clips, lower learning_rate ({stage.learning_rate:g}) of stage {stage.name} alone, or use "
        "precision float32"
    )
    if path.exists():
        return (
            f"{path} of an earlier step is kept: start a run in another folder from it (start = given), and {changes}."
        )
    return f"No checkpoint was saved yet: {changes}, and run again."


def _device(layers: TemporalLayers) -> torch.device:
    return next(layers.parameters()).device


def _figures(objective: Objective, samples: list[Sample], errors: Tensor) -> dict[str, Figure]:
    """Return the loss by noise band, and of the given frames."""
    means = errors.detach().mean((2, 3)).cpu()
    figures: dict[str, tuple[float, float]] = {}

    def add(name: str, values: Tensor) -> None:
        total, count = figures.get(name, (0.0, 0))
        figures[name] = (total + values.sum().item(), count + values.numel())

    for sample, mean in zip(samples, means, strict=True):
        add(objective.band(int(sample.t)), mean.mean())
        if sample.conditioning is not None:
            given = sample.conditioning[:, -1].flatten(1).amax(1) > 0
            add("loss_given", mean[given])
    return {name: figure for name, figure in figures.items() if figure[1]}


def stage_objective(stage: Stage, info: LayersInfo) -> Objective:
    """Return the objective of a stage for layers whose noise and prediction `info` states."""
    return Objective(
        schedule=Schedule.from_betas(**info.betas, zero_terminal_snr=info.zero_terminal_snr),
        prediction=info.prediction,
        timesteps=stage.timesteps,
        last=stage.last_timestep,
        dropout=stage.dropout(),
        known=stage.known(),
        drift_weight=stage.drift_weight,
    )


def stage_info(info: LayersInfo, clips: Clips, stage: Stage, run: Run) -> LayersInfo:
    """Return `info` with the stage's role, prediction, clip length and training summary.

    Raises ValueError if the clips' length differs from the stage's `frames`, exceeds the layers' position table or is
    too small for the pattern of known frames, if the clips lack the smaller version that super-resolution needs, or if
    the role needs known frames, but the layers do not read them.
    """
    if stage.role != "video" and not info.conditioning_channels:
        raise ValueError(
            f"Stage {stage.name} trains the role {stage.role}, but these temporal layers ({info.family}) do not read "
            "known frames: set start to fresh, or role to video."
        )
    if stage.frames and clips.frames != stage.frames:
        raise ValueError(
            f"The recipe's stage {stage.name} is for clips of {stage.frames} frames, the dataset has {clips.frames}: "
            f"prepare the clips with {stage.frames} frames, or set frames to 0 to take them as they are."
        )
    if info.max_frames and clips.frames > info.max_frames:
        raise ValueError(
            f"The clips have {clips.frames} frames, these temporal layers ({info.family}) at most {info.max_frames}: "
            "prepare shorter clips."
        )
    if stage.downscale > 1 and clips.downscale != stage.downscale:
        found = f"made smaller by {clips.downscale}" if clips.downscale > 1 else "of full size alone"
        raise ValueError(
            f"The recipe's stage {stage.name} trains super-resolution by factor {stage.downscale}, but the clips are "
            f"{found}: "
            f"prepare them with downscale {stage.downscale} (run.py prepare --downscale {stage.downscale})."
        )
    if info.conditioning_channels:
        stage.known().mask(clips.frames, torch.Generator())  # raises ValueError for too few frames
    noise = info.noise
    if stage.prediction != "base":
        noise = replace(noise, prediction=stage.prediction, zero_terminal_snr=stage.zero_terminal_snr)
    training = {
        "recipe": run.title,
        "stage": stage.name,
        "steps": 0,
        "seed": run.seed,
        "clips": len(clips),
        "data": clips.key,
        "base": dict(run.base),
        "start": run.start,
        "settings": asdict(stage),
    }
    return replace(
        info,
        role=stage.role,
        frames=clips.frames,
        fps=float(clips.fps),
        noise=noise,
        noise_told=stage.known_noise > 0,
        factor=stage.downscale,
        training=training,
    )


def warnings(clips: Clips, stage: Stage, info: LayersInfo, *, fresh: bool) -> list[str]:
    """Return warnings about runs that are unlikely to give a useful result."""
    found = []
    if not info.conditioning_channels and stage.known_frames not in ("first", "none"):
        found.append(
            f'known_frames "{stage.known_frames}" has no effect, because these temporal layers ({info.family}) do not '
            "read known frames."
        )
    if fresh and (len(clips) < FRESH_CLIPS or stage.steps < FRESH_STEPS):
        found.append(
            f"Fresh temporal layers with {len(clips)} clips and {stage.steps} steps will hardly move, because they "
            f"start without motion: use {FRESH_CLIPS} clips and {FRESH_STEPS} steps or more. "
            "With few clips, start from existing layers (start = given)."
        )
    if not hold_out(clips, stage.held_out, seed=0)[1]:
        found.append(
            "No clips are held out, so check_loss is of clips that are trained on and does not show overfitting: use "
            "10 clips or more, and held_out above 0."
        )
    return found


# Settings that may change when a run is resumed, because they do not affect what a step computes.
FREE = {"name", "dataset", "steps", "clips_at_once", "save_every", "check_every", "log_every", "tensorboard"}
FREE |= {"compile", "shard", "gradient_checkpointing"}


def _identity(stage: Stage, run: Run, clips: Clips) -> dict[str, Any]:
    settings = {key: value for key, value in asdict(stage).items() if key not in FREE}
    return {
        **settings,
        "seed": run.seed,
        "data": clips.key,
        "base": run.base["hash"],
        "start": run.start,
        **run.settings,
    }
