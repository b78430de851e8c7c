"""Train image models and arms of the ablations. What is finished is skipped; what was interrupted continues."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...diffusion.schedule import Schedule, add_noise, v_target
from ...evaluation.results import digest
from ...temporal_layers.attach import attach
from ...temporal_layers.files import load_layers, read_info
from ...temporal_layers.info import LayersInfo
from ...temporal_layers.layers import TemporalLayers
from ...temporal_layers.noise import Discrete
from ...training import trainer
from ...training.checkpoint import written_whole
from ...training.loop import Settings, train
from ...training.objective import sample_timesteps
from ..model.checkpoint import denoiser_weights, load_autoencoder
from ..model.denoiser import Denoiser
from ..model.text_encoder import tokens_of
from ..recipe import RECIPE
from ..shipped import CHECKPOINT
from ..stages.clips import step_generator
from ..stages.layers import Network, fresh_layers, layers_of
from ..stages.run import key_of
from ..stages.word_probe import WordProbe
from ..world import FPS, FRAMES
from . import data, recipes
from .data import Encoded, encode, encoded_training_set, pictures, training_clips
from .recipes import ARMS, HIGH, LOW, STAGE, Arm, Base, Scale

BASE_RATE, DROP_TEXT, BASE_SEED = 5e-4, 0.1, 505
SETTINGS = (BASE_RATE, DROP_TEXT, BASE_SEED)  # in the identity

Stop = Callable[[], bool] | None


class Lab:
    """The folder of a run: encoded clips, trained weights and videos.

    identity: what all of them depend on, as plain JSON values.

    Raises:
        ValueError: the folder holds a run of another scale, of other recipes or of another pocket, or the scale is
            empty.
    """

    def __init__(self, folder: Path, scale: Scale):
        self.folder, self.scale = folder, scale
        if scale.steps < 1 or scale.prompts < 1:
            raise ValueError("Ablations need at least one step and one prompt. Use more of both for a result.")
        folder.mkdir(parents=True, exist_ok=True)
        settings = key_of(recipes.settings(), data.SETTINGS, SETTINGS)
        self.identity = {"scale": asdict(scale), "recipes": settings, "pocket": digest(CHECKPOINT)[:12]}
        about = json.dumps(self.identity, sort_keys=True)
        path = folder / "run.json"
        before = path.read_text("utf-8") if path.exists() else about
        if before != about:
            raise ValueError(
                f"{folder} holds ablations with other settings ({before}), not {about}. Choose another --folder, or "
                "the settings of before."
            )
        with written_whole(path) as temporary:
            temporary.write_text(about, "utf-8")

    @cached_property
    def autoencoder(self):
        return load_autoencoder(CHECKPOINT)

    @cached_property
    def encoded(self) -> dict[int, Encoded]:
        """Return the training set of each size."""
        return {size: encoded_training_set(self.folder, self.autoencoder, self.scale, size) for size in (HIGH, LOW)}

    def base_path(self, base: Base) -> Path:
        return self.folder / "image_models" / f"{base.name}.safetensors"

    def layers_path(self, arm: Arm, seed: int) -> Path:
        """Return the file of an arm's layers after its last leg."""
        return self.folder / "arms" / f"{arm.name}_{seed}" / f"leg_{len(arm.legs)}.safetensors"

    def is_trained(self, arm: Arm, seed: int) -> bool:
        path = self.layers_path(arm, seed)
        return path.exists() and read_info(path).training["steps"] >= self.scale.leg_steps(arm.legs[-1])


def schedule_of(base: Base) -> Schedule:
    return Schedule.from_betas(zero_terminal_snr=base.zero_terminal_snr)


def shipped_image_model() -> Denoiser:
    model = Denoiser(RECIPE.shape)
    model.load_state_dict(denoiser_weights(load_file(CHECKPOINT)))
    return model.requires_grad_(False)


def image_model(lab: Lab, base: Base) -> Denoiser:
    """Return the frozen image model of a base."""
    model = shipped_image_model()
    model.unet.load_state_dict(load_file(lab.base_path(base)))
    return model


def train_base(lab: Lab, base: Base, should_stop: Stop = None) -> None:
    """Train the shipped image model further: pictures of both sizes in turn, with the objective of `base`.

    As in its first training, a linear probe must find the caption's words in the activations.
    """
    path = lab.base_path(base)
    if path.exists():
        return
    scenes = pictures(lab.scale.clips)
    sets = [encode(lab.autoencoder, scenes, size).latents[:, 0] for size in (HIGH, LOW)]
    tokens, empty = tokens_of([scene.caption for scene in scenes]), tokens_of([""])
    torch.manual_seed(BASE_SEED)
    model, schedule = shipped_image_model(), schedule_of(base)
    model.unet.requires_grad_(True)
    words = WordProbe(model.unet.feature_channels)

    def loss(step: int, positions: range) -> tuple[Tensor, dict[str, float]]:
        generator = step_generator(BASE_SEED, step)
        latents = sets[step % len(sets)]
        index = torch.randint(0, len(latents), (len(positions),), generator=generator)
        x0, said = latents[index].float(), tokens[index]
        said = torch.where(torch.rand(len(said), 1, generator=generator) < DROP_TEXT, empty, said)
        t = sample_timesteps(len(x0), len(schedule), generator, bias=1.0)
        noise = torch.randn(x0.shape, generator=generator)
        context, pooled = model.encode(said)
        out, features = model.with_features(add_noise(x0, noise, t, schedule), t, context, pooled)
        target = noise if base.prediction == "eps" else v_target(x0, noise, t, schedule)
        error = (out.float() - target).square().mean()
        return error + words.error(features, said), {"error": error.item()}

    settings = Settings(
        lab.scale.steps, rate=BASE_RATE, warmup=min(100, lab.scale.steps), batch=lab.scale.pictures, ema=0.995,
        log_every=STAGE.log_every,
    )  # fmt: skip
    result = train(
        {"unet": model.unet, "words": words}, loss, settings, path.parent, base.name, should_stop=should_stop
    )
    if not result.stopped:
        with written_whole(path) as temporary:
            save_file({key: weight.contiguous() for key, weight in result.average["unet"].items()}, temporary)


def train_arm(lab: Lab, arm: Arm, seed: int, should_stop: Stop = None) -> None:
    """Train the legs of an arm that are not finished."""
    if lab.is_trained(arm, seed):
        return
    train_base(lab, arm.base, should_stop)
    model = image_model(lab, arm.base)
    model.unet.requires_grad_(arm.trains_image_model)
    layers = fresh_layers(model, RECIPE.base, seed)
    if arm.start:
        layers.load_state_dict(load_layers(lab.layers_path(ARMS[arm.start], seed))[0])
    attach(model.unet, layers, owner=layers)
    folder = lab.layers_path(arm, seed).parent
    for number, leg in enumerate(arm.legs, 1):
        clips = training_clips(leg.data, lab.encoded[leg.size], lab.scale)
        stage = replace(
            STAGE,
            name=f"leg_{number}",
            prediction=arm.base.prediction,
            zero_terminal_snr=arm.base.zero_terminal_snr,
            known_frames=arm.known_frames,
            steps=lab.scale.leg_steps(leg),
            batch=lab.scale.batch,
            clips_at_once=lab.scale.batch,
            learning_rate=leg.rate,
            warmup=min(STAGE.warmup, lab.scale.leg_steps(leg)),
        )
        about = trainer.Run(
            folder, f"ablations: {arm.name}", seed, {"name": RECIPE.base, "hash": arm.base.name}, arm.start
        )
        info = LayersInfo(
            base=RECIPE.base,
            role="video",
            anchors=layers.anchors,
            frames=FRAMES,
            fps=FPS,
            conditioning_channels=layers.conditioning_channels,
            noise=Discrete(prediction=arm.base.prediction, zero_terminal_snr=arm.base.zero_terminal_snr),
        )
        result = trainer.train_layers(
            layers,
            Network(model, compile_model=False),
            clips,
            stage,
            trainer.stage_info(info, clips, stage, about),
            about,
            image_model=model.unet if arm.trains_image_model else None,
            should_stop=should_stop,
        )
        if result.stopped:
            return
        layers.load_state_dict(result.average["layers"])
        if arm.trains_image_model:
            model.unet.load_state_dict(result.average["image_model"])


def trained(lab: Lab, arm: Arm, seed: int) -> tuple[Denoiser, TemporalLayers]:
    """Return the image model and the attached layers of a trained arm."""
    model = image_model(lab, arm.base)
    path = lab.layers_path(arm, seed)
    if arm.trains_image_model:
        model.unet.load_state_dict(load_file(path.with_name(f"{path.stem}_image_model.safetensors")))
    layers = layers_of(model, RECIPE.base, load_layers(path)[0])
    attach(model.unet, layers, owner=layers)
    return model.requires_grad_(False), layers
