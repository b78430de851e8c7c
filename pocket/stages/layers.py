"""The last stages: temporal layers on the frozen image model, trained with the users' trainer (training/trainer.py)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ...temporal_layers.attach import attach
from ...temporal_layers.backbones import backbone_of, find_anchors
from ...temporal_layers.info import LayersInfo
from ...temporal_layers.layers import TemporalLayers
from ...temporal_layers.noise import Discrete
from ...training import trainer
from ...training.clips import Conds, MemoryClips
from ..model.denoiser import Denoiser
from ..model.text_encoder import pad_tokens
from ..recipe import LargeClips, LayersStage
from ..world import FPS, FRAMES
from .clips import latent_clips
from .large_clips import large_clips
from .run import Run, States


def make(run: Run, name: str, compile_model: bool = True, **options) -> None:
    """Train a stage of temporal layers. options: see `training.trainer.train_layers`.

    The result in the run's folder is written at every checkpoint; the stage is complete after all steps.
    """
    made = run.stage(name, LayersStage)
    stage = replace(made.stage, name=run.name(name), compile=made.stage.compile and compile_model)
    model = run.image_model(made.image)
    layers = new_layers(run, name, model).to(run.device)
    attach(model.unet, layers, owner=layers)
    clips = training_clips(run, made)
    info = LayersInfo(
        base=run.recipe.base,
        role="video",  # `stage_info` sets that of the stage
        anchors=layers.anchors,
        frames=clips.frames,
        fps=clips.fps,
        conditioning_channels=layers.conditioning_channels,
        noise=Discrete(prediction="v", zero_terminal_snr=True),
        training={},
    )
    about = trainer.Run(
        folder=run.folder,
        title=run.recipe.name,
        seed=made.seed,
        base={"name": run.recipe.base, "hash": run.keys[made.image]},
        start=made.start,
    )
    info = trainer.stage_info(info, clips, stage, about)
    network = Network(model, stage.compile)
    trainer.train_layers(layers, network, clips, stage, info, about, **options)


def new_layers(run: Run, name: str, model: Denoiser) -> TemporalLayers:
    """Return the layers that a stage starts from."""
    made = run.stage(name, LayersStage)
    if made.start == "fresh":
        return fresh_layers(model, run.recipe.base, made.seed, made.stage.frames)
    return layers_of(model, run.recipe.base, run.load(made.start), made.stage.frames)


def layers_of(model: Denoiser, base: str, weights: States, frames: int = FRAMES) -> TemporalLayers:
    """Return layers for the image model, with these weights."""
    layers = empty_layers(model, base, frames)
    layers.load_state_dict(weights)
    return layers


def fresh_layers(model: Denoiser, base: str, seed: int, frames: int = FRAMES) -> TemporalLayers:
    """Return untrained layers of a seed; their convolution of known frames starts as a copy of the image model's first.

    The frozen network then sees known frames like its ordinary input.
    """
    layers = empty_layers(model, base, frames)
    layers.load_state_dict(layers.fresh_state_dict(seed))
    layers.read_known_frames_with(model.unet.get_parameter(f"{layers.backbone.input_anchor}.weight"))
    return layers


def empty_layers(model: Denoiser, base: str, frames: int) -> TemporalLayers:
    channels = model.unet.shape.latent_channels + 1
    layers = TemporalLayers(find_anchors(model.unet), channels, backbone=backbone_of(base))
    layers.frames = frames
    return layers


def video_model(model: Denoiser, base: str, weights: States) -> Denoiser:
    """Return the image model with video layers of these weights attached."""
    layers = layers_of(model, base, weights).to(next(model.parameters()).device)
    attach(model.unet, layers, owner=model)
    return model


def training_clips(run: Run, made: LayersStage) -> MemoryClips:
    """Return all clips of a stage, with token ids as texts and with loss weights."""
    sets = [
        large_clips(run, clips) if isinstance(clips, LargeClips) else latent_clips(run, clips) for clips in made.clips
    ]
    whole = {name: torch.cat([getattr(each, name) for each in sets]) for name in vars(sets[0])}
    return MemoryClips(
        whole["latents"],
        [{"tokens": each} for each in whole["tokens"]],
        {"tokens": torch.tensor(pad_tokens([]))},
        fps=clip_rate(made),
        weights=torch.where(whole["near"], made.near_weight, 1.0).half(),
        upsampled=whole.get("upsampled"),
        downscale=made.stage.downscale,
        key=run.keys["clips"],
    )


def clip_rate(made: LayersStage) -> float:
    """Return the frames per second of a stage's clips."""
    times = made.clips[0].times
    return float(FPS / (times[1] - times[0]))


class Network:
    """The frozen image model with temporal layers attached, as the trainer calls it."""

    def __init__(self, model: Denoiser, compile_model: bool):
        self.model = model
        self.compiled = torch.compile(model, dynamic=False) if compile_model else model

    def __call__(self, noisy: Tensor, t: Tensor, given: Tensor | None, texts: list[Conds]) -> Tensor:
        count, frames = noisy.shape[:2]
        with torch.no_grad():
            encoded = self.model.encode(torch.stack([text["tokens"] for text in texts]).to(noisy.device))
        context, pooled = (each.repeat_interleave(frames, 0) for each in encoded)
        x = noisy if given is None else torch.cat([noisy, given], 2)
        # Checks use other batch sizes than training, and compiling for them would take longer than the checks.
        run = self.compiled if torch.is_grad_enabled() else self.model
        out = run(x.flatten(0, 1), t.repeat_interleave(frames), context, pooled)
        return out.float().unflatten(0, (count, frames))
