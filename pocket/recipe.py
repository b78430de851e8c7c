"""The recipe of the pocket: data, seeds, steps, learning rates and timestep distributions of every training stage.

`run.py pocket make` trains by it, and the exported files contain it in their metadata.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..training.loop import Settings
from ..training.recipe import Stage
from .model.unet import UNetShape
from .world import ALL, CROSSING, FINE_TIMES, FRAMES, SIZE, TIMES, Scenes, showing
from .world.vocabulary import DIRECTIONS, MOTIONS

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
    latent_channels: int
    width: int
    latent_noise: float
    crop: int = 64
    colour_scale: float = 1.5


@dataclass(frozen=True)
class DecoderStage:
    """Training of the autoencoder's decoder alone, on latents as sampling leaves them, for the exported autoencoder.

    layers: the stage whose layers sample. most_noise: the highest timestep that sampling starts from. steps: of
    sampling.
    """

    seed: int
    settings: Settings
    clips: ClipSet
    layers: str
    most_noise: int
    steps: int
    crop: int = 64


@dataclass(frozen=True)
class TextStage:
    """Text encoder training: captions to their mean latent picture. It replaces the pretrained text encoder of a larger
    model."""

    seed: int
    settings: Settings
    pictures: tuple[Pictures, ...]


@dataclass(frozen=True)
class ImageStage:
    """Text to image: v-prediction with zero terminal SNR. The result is frozen in the stages of temporal layers.

    start: "text", or the image stage whose model is trained further. timesteps: a distribution of
    training.objective.TIMESTEPS; last_timestep: share of pictures at the last one. drop_text: share of pictures without
    text. near_weight: loss weight of latents near a shape, 1 elsewhere. word_weight: weight of the loss of a linear
    probe that must find the caption's words in the activations, because temporal layers can only use words that the
    frozen model passes on. phrase_weight: that of a probe that must find which words belong to the same shape.
    """

    seed: int
    settings: Settings
    pictures: tuple[Pictures, ...]
    start: str = "text"
    timesteps: str = "uniform"
    last_timestep: float = 0.05
    drop_text: float = 0.1
    near_weight: float = 5.0
    word_weight: float = 1.0
    phrase_weight: float = 1.0


@dataclass(frozen=True)
class LayersStage:
    """Temporal layers on a frozen image model, with the same trainer that users have.

    start: "fresh", or the stage whose layers are trained further. image: the stage of the image model. Fresh layers
    read known frames through a convolution that starts as a copy of the image model's first one.
    """

    seed: int
    clips: tuple[ClipSet, ...]
    stage: Stage
    start: str
    image: str = "image"
    near_weight: float = 5.0


AnyStage = AutoencoderStage | DecoderStage | TextStage | ImageStage | LayersStage


@dataclass(frozen=True)
class Recipe:
    """All stages by name, in the order of their training.

    Each stage needs those that it names and the autoencoder, which encodes its clips. The stages that are exported are
    "decoder" (the autoencoder with it), "image", "video", "interpolation" and "super_resolution". base: family of the
    image model, stated in the files of its temporal layers.
    """

    name: str
    base: str
    shape: UNetShape
    stages: dict[str, AnyStage]


SCENES = Scenes((*MOTIONS, "getting smaller"), pairs=0.3, free_pairs=0.5, dimming=0.2)
"""Kinds of scenes that the first version got wrong are more frequent: two shapes in everyday words, getting smaller,
brightness."""
STILLS = ClipSet(seed=11, count=16_000, scenes=Scenes(is_moving=False), frames=1)
"""Single pictures whose captions describe positions and sizes."""
STARTS = ClipSet(seed=12, count=16_000, scenes=SCENES, frames=1)
"""First frames of clips with the clips' captions, which name the motion."""
PAIRS = replace(SCENES, pairs=1.0, free_pairs=0.8, dimming=0.0)
STARTS_OF_PAIRS = ClipSet(seed=22, count=16_000, scenes=PAIRS, frames=1)
TURNED = ClipSet(seed=14, count=4_000, scenes=showing("spinning"), times=(2.0, 4.0, 7.0), frames=3)
"""Later frames of spinning clips, because the frozen model cannot draw rotations that it was not trained on. They have
no captions, so that the first frame of a spinning clip is still drawn upright."""
DIMMED = ClipSet(seed=23, count=4_000, scenes=Scenes(dimming=1.0), times=(2.0, 4.0, 6.0, 7.0), frames=4)
"""Later frames of clips whose light changes, for the same reason."""

CLIPS = (
    ClipSet(seed=13, count=4_500, scenes=SCENES),
    ClipSet(seed=17, count=2_500, scenes=showing("spinning")),
)
CLIPS_OF_PAIRS = ClipSet(seed=24, count=2_500, scenes=PAIRS)
MORE_CLIPS = (
    *CLIPS,
    CLIPS_OF_PAIRS,
    ClipSet(seed=25, count=1_200, scenes=Scenes(dimming=1.0)),
    ClipSet(seed=26, count=2_000, scenes=showing(*DIRECTIONS, "getting bigger")),
)
"""The last set is for balance: SCENES show "getting smaller" twice as often as "getting bigger", and shapes that should
only move shrank by 4 %."""
EVEN_CLIPS = (
    ClipSet(seed=29, count=5_000, scenes=Scenes(pairs=0.1, dimming=0.1)),
    ClipSet(seed=30, count=5_000, scenes=PAIRS),
)
"""New clips: mostly one shape, with all motions equally often, and pairs."""
FINE_CLIPS = (
    ClipSet(seed=15, count=900, scenes=SCENES, times=FINE, frames=len(FINE)),
    ClipSet(seed=16, count=500, scenes=showing(*CROSSING), times=FINE, frames=len(FINE)),
)
LARGE_CLIPS = (
    LargeClips(seed=18, count=350, scenes=SCENES),
    LargeClips(seed=19, count=350, scenes=SCENES, times=FINE[14 : 14 + FRAMES]),
)
"""At the rate of the video, and at that of interpolated videos, which super-resolution makes larger too."""

LAYERS = Stage(
    prediction="v",
    zero_terminal_snr=True,
    timesteps="mixed",
    drift_weight=10.0,
    held_out=0.02,
    final_rate=0.02,
    adam_beta2=0.99,
    average_decay=0.998,
    optimiser="muon",
    precision="bfloat16",
    gradient_checkpointing=False,
    compile=True,
    save_every=200,
    check_every=500,
)
VIDEO = replace(
    LAYERS,
    role="video",
    frames=FRAMES,
    known_frames="mixed",
    turn_round=0.5,
    batch=8,
    clips_at_once=8,
)
INTERPOLATION = replace(
    LAYERS,
    role="interpolation",
    frames=len(FINE),
    known_frames="every n-th",
    known_every=4,
    known_margin=4,
    known_noise=250,
    known_exact=0.5,
    batch=2,
    clips_at_once=2,
)
SUPER_RESOLUTION = replace(
    LAYERS,
    role="super_resolution",
    frames=FRAMES,
    downscale=2,
    known_noise=400,
    known_exact=0.2,
    batch=2,
    clips_at_once=2,
)

RECIPE = Recipe(
    name="pocket2",
    base="pocket2",
    shape=UNetShape(latent_channels=16),
    stages={
        "autoencoder": AutoencoderStage(
            seed=1,
            settings=Settings(5000, batch=16, rate=3e-3, optimiser="muon", ema=0.995),
            latent_channels=16,
            width=64,
            latent_noise=0.06,
        ),
        "text": TextStage(
            seed=4,
            settings=Settings(800, batch=128, rate=2e-3),
            pictures=(Pictures(STILLS, 1 / 2), Pictures(STARTS, 1 / 2)),
        ),
        "image_pretraining": ImageStage(
            seed=2,
            settings=Settings(12_000, batch=33, rate=3e-3, optimiser="muon"),
            pictures=(
                Pictures(STILLS, 1 / 3),
                Pictures(STARTS, 1 / 2),
                Pictures(TURNED, 1 / 6, has_captions=False),
            ),
            phrase_weight=0.0,
        ),
        "image_pairs": ImageStage(
            seed=8,
            settings=Settings(4_500, batch=33, rate=1.5e-3, optimiser="muon"),
            pictures=(
                Pictures(STILLS, 6 / 33),
                Pictures(STARTS, 8 / 33),
                Pictures(TURNED, 4 / 33, has_captions=False),
                Pictures(STARTS_OF_PAIRS, 10 / 33),
                Pictures(DIMMED, 5 / 33, has_captions=False),
            ),
            start="image_pretraining",
        ),
        "image": ImageStage(
            seed=21,
            settings=Settings(3_000, batch=33, rate=1e-3, optimiser="muon"),
            pictures=(
                Pictures(STILLS, 9 / 33),
                Pictures(STARTS, 9 / 33),
                Pictures(TURNED, 3 / 33, has_captions=False),
                Pictures(STARTS_OF_PAIRS, 10 / 33),
                Pictures(DIMMED, 2 / 33, has_captions=False),
            ),
            start="image_pairs",
        ),
        "video_pretraining": LayersStage(
            seed=3,
            clips=CLIPS,
            stage=replace(VIDEO, steps=5_500, learning_rate=1.5e-3, timestep_weights="learned"),
            start="fresh",
            image="image_pretraining",
        ),
        "video_equal_weights": LayersStage(
            seed=3,
            clips=CLIPS,
            stage=replace(VIDEO, steps=6_000, learning_rate=7e-4),
            start="video_pretraining",
            image="image_pretraining",
        ),
        "video_more_scenes": LayersStage(
            seed=9,
            clips=MORE_CLIPS,
            stage=replace(VIDEO, steps=3_000, learning_rate=7e-4),
            start="video_equal_weights",
            image="image_pairs",
        ),
        "video_pairs": LayersStage(
            seed=28,
            clips=(*MORE_CLIPS, CLIPS_OF_PAIRS, CLIPS_OF_PAIRS),
            stage=replace(VIDEO, steps=2_000, learning_rate=6e-4),
            start="video_more_scenes",
            image="image_pairs",
        ),
        "video": LayersStage(
            seed=31,
            clips=(*MORE_CLIPS[1:], *EVEN_CLIPS),
            stage=replace(VIDEO, steps=4_500, learning_rate=6e-4),
            start="video_pairs",
        ),
        "decoder": DecoderStage(
            seed=7,
            settings=Settings(4_000, batch=16, rate=1e-3, optimiser="muon", ema=0.995),
            clips=ClipSet(seed=27, count=800, scenes=replace(SCENES, dimming=0.4)),
            layers="video",
            most_noise=600,
            steps=5,
        ),
        "interpolation_pretraining": LayersStage(
            seed=5,
            clips=FINE_CLIPS,
            stage=replace(INTERPOLATION, steps=3_200, learning_rate=8e-4),
            start="video_equal_weights",
            image="image_pretraining",
        ),
        "interpolation_pairs": LayersStage(
            seed=10,
            clips=FINE_CLIPS,
            stage=replace(INTERPOLATION, steps=1_200, learning_rate=6e-4),
            start="interpolation_pretraining",
            image="image_pairs",
        ),
        "interpolation": LayersStage(
            seed=32,
            clips=FINE_CLIPS,
            stage=replace(INTERPOLATION, steps=1_500, learning_rate=6e-4),
            start="interpolation_pairs",
        ),
        "super_resolution_pretraining": LayersStage(
            seed=6,
            clips=LARGE_CLIPS,
            stage=replace(SUPER_RESOLUTION, steps=1_500, learning_rate=8e-4),
            start="video_equal_weights",
            image="image_pretraining",
        ),
        "super_resolution_pairs": LayersStage(
            seed=20,
            clips=LARGE_CLIPS,
            stage=replace(SUPER_RESOLUTION, steps=400, learning_rate=5e-4),
            start="super_resolution_pretraining",
            image="image_pairs",
        ),
        "super_resolution": LayersStage(
            seed=33,
            clips=LARGE_CLIPS,
            stage=replace(SUPER_RESOLUTION, steps=500, learning_rate=5e-4),
            start="super_resolution_pairs",
        ),
    },
)
"""Image model and layers were first trained without STARTS_OF_PAIRS, DIMMED and the probe of phrases; later stages make
up for it."""
