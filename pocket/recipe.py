"""The recipe of the pocket: data, seeds, steps, learning rates and timestep distributions of every training stage.

`run.py pocket make` trains by a recipe, and the exported files contain it in their metadata.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..training.loop import Settings
from ..training.recipe import Stage
from .model.unet import UNetShape
from .world import ALL, CROSSING, FINE_TIMES, FRAMES, SIZE, TIMES, Scenes, showing
from .world.vocabulary import MOTIONS

COARSE, FINE = tuple(TIMES.tolist()), tuple(FINE_TIMES.tolist())


@dataclass(frozen=True)
class ClipSet:
    """Clips of the world. The first `frames` of the `times` (in frames of a clip) are drawn."""

    seed: int
    count: int
    scenes: Scenes = ALL
    times: tuple[float, ...] = COARSE
    frames: int = FRAMES


@dataclass(frozen=True)
class LargeClips(ClipSet):
    """Clips for super-resolution. size: pixels of a side. factor: how much smaller the known frames are."""

    size: int = 2 * SIZE
    factor: int = 2


@dataclass(frozen=True)
class Pictures:
    """A share of each batch of pictures. Without captions, their text is empty."""

    clips: ClipSet
    share: float
    has_captions: bool = True


@dataclass(frozen=True)
class AutoencoderStage:
    """Autoencoder training on crops of `crop` x `crop` pixels around shapes.

    width: channels inside; ComfyUI runs 64, narrower weights are padded. latent_noise: standard deviation of noise on
    the latents before they are decoded. colour_scale: factor on the three latent channels that hold the small picture's
    colours, so that they have a standard deviation of about 1.
    """

    seed: int
    settings: Settings
    latent_channels: int = 4
    width: int = 32
    crop: int = 64
    latent_noise: float = 0.12
    colour_scale: float = 1.5


@dataclass(frozen=True)
class TextStage:
    """Text encoder training: captions to their mean latent picture. It replaces the pretrained text encoder of a larger
    model."""

    seed: int
    settings: Settings
    pictures: tuple[Pictures, ...]


@dataclass(frozen=True)
class ImageStage:
    """Text to image: v-prediction with zero terminal SNR. The result is frozen in all later stages.

    timesteps: a distribution of training.objective.TIMESTEPS; last_timestep: share of pictures at the last one.
    drop_text: share of pictures without text. near_weight: loss weight of latents near a shape, 1 elsewhere.
    word_weight: weight of the loss of a linear probe that must find the caption's words in the activations, because
    temporal layers can only use words that the frozen model passes on.
    """

    seed: int
    settings: Settings
    pictures: tuple[Pictures, ...]
    timesteps: str = "noisy"
    last_timestep: float = 0.05
    drop_text: float = 0.1
    near_weight: float = 5.0
    word_weight: float = 1.0


@dataclass(frozen=True)
class LayersStage:
    """Temporal layers on the frozen image model, with the same trainer that users have.

    start: "fresh", or the stage whose layers are trained further. extra_convolution: fresh layers read known frames
    through a convolution that starts at zero (Emu Video) or as a "copy" of the image model's first one.
    """

    seed: int
    clips: tuple[ClipSet, ...]
    stage: Stage
    start: str = "fresh"
    extra_convolution: str = "zero"
    near_weight: float = 5.0


@dataclass(frozen=True)
class Recipe:
    """A whole recipe. base: family of the image model, stated in the files of its temporal layers.

    pretraining: of the video layers, if they are trained in two stages. super_resolution: None for a recipe without
    such layers.
    """

    name: str
    base: str
    shape: UNetShape
    autoencoder: AutoencoderStage
    text: TextStage
    image: ImageStage
    video: LayersStage
    interpolation: LayersStage
    pretraining: LayersStage | None = None
    super_resolution: LayersStage | None = None


STILLS = ClipSet(seed=11, count=16_000, scenes=Scenes(is_moving=False), frames=1)
"""Single pictures whose captions describe positions and sizes."""
STARTS = ClipSet(seed=12, count=16_000, frames=1)
"""First frames of clips with the clips' captions, which name the motion."""
TURNED = ClipSet(seed=14, count=4_000, scenes=showing("spinning"), times=(2.0, 4.0, 7.0), frames=3)
"""Later frames of spinning clips, because the frozen model cannot draw rotations that it was not trained on. They have
no captions, so that the first frame of a spinning clip is still drawn upright."""
PICTURES = (Pictures(STILLS, 1 / 3), Pictures(STARTS, 1 / 2), Pictures(TURNED, 1 / 6, has_captions=False))

LAYERS = Stage(
    prediction="v",
    zero_terminal_snr=True,
    drift_weight=10.0,
    held_out=0.02,
    final_rate=0.02,
    adam_beta2=0.99,
    average_decay=0.998,
    precision="bfloat16",
    gradient_checkpointing=False,
    compile=True,
    save_every=200,
    check_every=500,
)

FIRST = Recipe(
    name="pocket",
    base="pocket",
    shape=UNetShape(),
    autoencoder=AutoencoderStage(seed=1, settings=Settings(1600, batch=32, rate=2e-3, warmup=80, ema=0.99)),
    text=TextStage(
        seed=4,
        settings=Settings(800, batch=128, rate=2e-3),
        pictures=(Pictures(STILLS, 1 / 2), Pictures(STARTS, 1 / 2)),
    ),
    image=ImageStage(seed=2, settings=Settings(11_000, batch=66, rate=1.2e-3), pictures=PICTURES),
    video=LayersStage(
        seed=3,
        clips=(ClipSet(seed=13, count=4_500), ClipSet(seed=17, count=2_500, scenes=showing("spinning"))),
        stage=replace(
            LAYERS,
            name="video",
            role="video",
            frames=FRAMES,
            known_frames="mixed",
            turn_round=0.5,
            steps=14_200,
            batch=16,
            clips_at_once=16,
            learning_rate=1e-3,
        ),
    ),
    interpolation=LayersStage(
        seed=5,
        clips=(
            ClipSet(seed=15, count=1_500, times=FINE, frames=len(FINE)),
            ClipSet(seed=16, count=900, scenes=showing(*CROSSING), times=FINE, frames=len(FINE)),
        ),
        stage=replace(
            LAYERS,
            name="interpolation",
            role="interpolation",
            frames=len(FINE),
            known_frames="every n-th",
            known_every=4,
            known_margin=4,
            known_noise=250,
            known_exact=0.5,
            steps=7_500,
            batch=4,
            clips_at_once=4,
            learning_rate=8e-4,
        ),
        start="video",
    ),
)

MORE_SCENES = Scenes((*MOTIONS, "getting smaller"), pairs=0.3, free_pairs=0.5, dimming=0.2)
"""More scenes of kinds that the first version gets wrong: two shapes in everyday words, getting smaller, brightness."""


def second_clips(clips: ClipSet) -> ClipSet:
    """Return the clip set of the second version that replaces a set of all scenes."""
    return replace(clips, scenes=MORE_SCENES) if clips.scenes == ALL else clips


def second_pictures(pictures: tuple[Pictures, ...]) -> tuple[Pictures, ...]:
    return tuple(replace(each, clips=second_clips(each.clips)) for each in pictures)


def second_layers(made: LayersStage, **changes) -> LayersStage:
    stage = replace(made.stage, timesteps="mixed", **changes)
    clips = tuple(second_clips(each) for each in made.clips)
    return replace(made, clips=clips, stage=stage, extra_convolution="copy")


SECOND_VIDEO = second_layers(
    FIRST.video,
    steps=5_500,
    batch=8,
    clips_at_once=8,
    optimiser="muon",
    learning_rate=1.5e-3,
    timestep_weights="learned",
)

SECOND = replace(
    FIRST,
    name="pocket2",
    base="pocket2",
    shape=UNetShape(latent_channels=16),
    autoencoder=AutoencoderStage(
        seed=1,
        settings=Settings(5000, batch=16, rate=3e-3, optimiser="muon", ema=0.995),
        latent_channels=16,
        width=64,
        latent_noise=0.06,
    ),
    text=replace(FIRST.text, pictures=second_pictures(FIRST.text.pictures)),
    image=replace(
        FIRST.image,
        settings=Settings(12_000, batch=33, rate=3e-3, optimiser="muon"),
        pictures=second_pictures(PICTURES),
        timesteps="uniform",
    ),
    pretraining=SECOND_VIDEO,
    video=replace(
        SECOND_VIDEO,
        start="pretraining",
        stage=replace(SECOND_VIDEO.stage, steps=6_000, learning_rate=7e-4, timestep_weights="equal"),
    ),
    interpolation=replace(
        second_layers(FIRST.interpolation, steps=3_200, batch=2, clips_at_once=2, optimiser="muon", learning_rate=8e-4),
        clips=(
            ClipSet(seed=15, count=900, scenes=MORE_SCENES, times=FINE, frames=len(FINE)),
            ClipSet(seed=16, count=500, scenes=showing(*CROSSING), times=FINE, frames=len(FINE)),
        ),
    ),
    super_resolution=LayersStage(
        seed=6,
        clips=(
            LargeClips(seed=18, count=350, scenes=MORE_SCENES),
            LargeClips(seed=19, count=350, scenes=MORE_SCENES, times=FINE[14 : 14 + FRAMES]),
        ),
        stage=replace(
            LAYERS,
            name="super_resolution",
            role="super_resolution",
            frames=FRAMES,
            downscale=2,
            known_noise=400,
            known_exact=0.2,
            timesteps="mixed",
            steps=1_500,
            batch=2,
            clips_at_once=2,
            optimiser="muon",
            learning_rate=8e-4,
        ),
        start="video",
    ),
)
"""Clips of super-resolution have the rate of the video and that of interpolated videos, which it makes larger too."""

RECIPES = {"first": FIRST, "second": SECOND}
