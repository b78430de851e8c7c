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
    """Autoencoder training on crops of `crop` x `crop` pixels around shapes of the clips.

    width: channels inside; ComfyUI runs 64, narrower weights are padded. latent_noise: standard deviation of noise on
    the latents before they are decoded. colour_scale: factor on the three latent channels that hold the small picture's
    colours, so that they have a standard deviation of about 1.
    """

    seed: int
    settings: Settings
    clips: ClipSet
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
    text. near_weight: loss weight of latents near a shape, 1 elsewhere. drift_weight: loss weight of the error of the
    mean over patches, against uneven backgrounds. word_weight: weight of the loss of a linear probe that must find the
    caption's words in the activations, because temporal layers can only use words that the frozen model passes on.
    phrase_weight: that of a probe that must find which words belong to the same shape.
    """

    seed: int
    settings: Settings
    pictures: tuple[Pictures, ...]
    start: str = "text"
    timesteps: str = "uniform"
    last_timestep: float = 0.05
    drop_text: float = 0.1
    near_weight: float = 5.0
    drift_weight: float = 5.0
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


def fewer(clips: ClipSet, count: int) -> ClipSet:
    """Return the first clips of a set."""
    return replace(clips, count=count)


SCENES = Scenes((*MOTIONS, "getting smaller"), pairs=0.3, free_pairs=0.5, dimming=0.2)
"""Kinds of scenes that the first version got wrong are more frequent: two shapes in everyday words, getting smaller,
brightness."""
EVEN = Scenes(pairs=0.1, dimming=0.1)
"""Mostly one shape, all motions equally often."""
PAIRS = replace(SCENES, pairs=1.0, free_pairs=0.8, dimming=0.0)
DIMMING = Scenes(dimming=1.0)

FRAMES_TO_ENCODE = ClipSet(seed=10, count=6_000, times=(0.0, 7.0), frames=2)
"""First and last frames, for the autoencoder."""
STILLS = ClipSet(seed=11, count=24_000, scenes=Scenes(is_moving=False), frames=1)
"""Single pictures whose captions describe positions and sizes."""
STARTS = ClipSet(seed=12, count=20_000, scenes=SCENES, frames=1)
"""First frames of clips with the clips' captions, which name the motion."""
STARTS_OF_PAIRS = ClipSet(seed=22, count=20_000, scenes=PAIRS, frames=1)
TURNED = ClipSet(seed=14, count=5_000, scenes=showing("spinning"), times=(2.0, 4.0, 7.0), frames=3)
"""Later frames of spinning clips, because the frozen model cannot draw rotations that it was not trained on. They have
no captions, so that the first frame of a spinning clip is still drawn upright."""
DIMMED = ClipSet(seed=23, count=4_000, scenes=DIMMING, times=(2.0, 4.0, 6.0, 7.0), frames=4)
"""Later frames of clips whose light changes, for the same reason."""

PICTURES = (
    Pictures(fewer(STILLS, 10_000), 10 / 36),
    Pictures(fewer(STARTS, 10_000), 10 / 36),
    Pictures(fewer(TURNED, 2_000), 4 / 36, has_captions=False),
    Pictures(fewer(STARTS_OF_PAIRS, 10_000), 10 / 36),
    Pictures(fewer(DIMMED, 1_500), 2 / 36, has_captions=False),
)
"""For the two stages of the image model on a CPU. The second one was added because the loss was still falling when the
learning rate of the first had ended."""

CLIPS = (
    ClipSet(seed=13, count=6_000, scenes=SCENES),
    ClipSet(seed=17, count=3_000, scenes=showing("spinning")),
    ClipSet(seed=24, count=9_000, scenes=PAIRS),
    ClipSet(seed=25, count=2_000, scenes=DIMMING),
    ClipSet(seed=26, count=3_000, scenes=showing(*DIRECTIONS, "getting bigger")),
    ClipSet(seed=29, count=7_000, scenes=EVEN),
)
"""The set of DIRECTIONS is for balance: SCENES show "getting smaller" twice as often as "getting bigger", and shapes
that should only move shrank by 4 %."""
FINE_CLIPS = (
    ClipSet(seed=15, count=2_000, scenes=SCENES, times=FINE, frames=len(FINE)),
    ClipSet(seed=16, count=1_000, scenes=showing(*CROSSING), times=FINE, frames=len(FINE)),
)
LARGE_CLIPS = (
    LargeClips(seed=18, count=500, scenes=SCENES),
    LargeClips(seed=19, count=500, scenes=SCENES, times=FINE[14 : 14 + FRAMES]),
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
    save_every=500,
    check_every=500,
    log_every=100,
)
VIDEO = replace(
    LAYERS,
    role="video",
    frames=FRAMES,
    known_frames="mixed",
    turn_round=0.5,
    batch=32,
    clips_at_once=32,
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
    batch=12,
    clips_at_once=12,
)
SUPER_RESOLUTION = replace(
    LAYERS,
    role="super_resolution",
    frames=FRAMES,
    downscale=2,
    known_noise=400,
    known_exact=0.2,
    batch=12,
    clips_at_once=12,
)

RECIPE = Recipe(
    name="pocket2",
    base="pocket2",
    shape=UNetShape(latent_channels=16),
    stages={
        "autoencoder": AutoencoderStage(
            seed=1,
            settings=Settings(6_000, batch=64, rate=3e-3, optimiser="muon", ema=0.995, save_every=1_000, log_every=100),
            clips=FRAMES_TO_ENCODE,
            latent_channels=16,
            width=64,
            latent_noise=0.05,
        ),
        "text": TextStage(
            seed=4,
            settings=Settings(800, batch=128, rate=2e-3),
            pictures=(Pictures(STILLS, 1 / 2), Pictures(STARTS, 1 / 2)),
        ),
        "image_pretraining": ImageStage(
            seed=2,
            settings=Settings(1_891, batch=128, rate=4e-3, optimiser="muon", save_every=1_000, log_every=100),
            pictures=(
                Pictures(STILLS, 36 / 128),
                Pictures(STARTS, 36 / 128),
                Pictures(TURNED, 14 / 128, has_captions=False),
                Pictures(STARTS_OF_PAIRS, 34 / 128),
                Pictures(DIMMED, 8 / 128, has_captions=False),
            ),
        ),
        "image_continued": ImageStage(
            seed=8,
            settings=Settings(3_000, batch=36, rate=1.5e-3, optimiser="muon"),
            pictures=PICTURES,
            start="image_pretraining",
        ),
        "image": ImageStage(
            seed=21,
            settings=Settings(7_000, batch=36, rate=1.5e-3, optimiser="muon"),
            pictures=PICTURES,
            start="image_continued",
        ),
        "video_pretraining": LayersStage(
            seed=3,
            clips=CLIPS,
            stage=replace(VIDEO, steps=434, learning_rate=2e-3),
            start="fresh",
            image="image_pretraining",
        ),
        "video": LayersStage(
            seed=31,
            clips=tuple(fewer(clips, clips.count // 3) for clips in CLIPS),
            stage=replace(VIDEO, steps=9_000, learning_rate=1e-3, batch=8, clips_at_once=8),
            start="video_pretraining",
        ),
        "decoder": DecoderStage(
            seed=7,
            settings=Settings(4_000, batch=16, rate=1e-3, optimiser="muon", ema=0.995),
            clips=ClipSet(seed=27, count=800, scenes=replace(SCENES, dimming=0.4)),
            layers="video",
            most_noise=600,
            steps=5,
        ),
        "interpolation": LayersStage(
            seed=32,
            clips=tuple(fewer(clips, clips.count // 2) for clips in FINE_CLIPS),
            stage=replace(INTERPOLATION, steps=3_500, learning_rate=8e-4, batch=3, clips_at_once=3),
            start="video",
        ),
        "super_resolution": LayersStage(
            seed=33,
            clips=LARGE_CLIPS,
            stage=replace(SUPER_RESOLUTION, steps=1_500, learning_rate=8e-4, batch=2, clips_at_once=2),
            start="video",
        ),
    },
)
