"""All arms of the five ablations on one page: what they train on, what is equal, and what the paper measured.

Every arm has the same layers, batch, learning rate, optimiser, moving average, seeds and sampling steps. No setting was
tuned for one arm. Steps are shares of the command's --steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

from ...training.recipe import Stage
from ..world import FRAMES, Scenes
from ..world.vocabulary import DIRECTIONS

HIGH, LOW = 96, 48
"""Pixels of a frame, three quarters of the pocket's 128 and half of that: 12 x 12 and 6 x 6 latents."""

SCENES = Scenes(motions=(*DIRECTIONS, "getting bigger", "getting smaller", "still"), pairs=0.0, dimming=0.25)
"""One shape, no bounces and spins, more changing light than the pocket has: without it the schedules of (b) tie."""
UNSEEN = ("cross", "cyan")
"""A shape and a colour that the image model knows and that no training video shows."""

TEXT_GUIDANCE, IMAGE_GUIDANCE = 2.0, 1.0
PICTURE_GUIDANCE = 4.0
"""Guidance of videos and of first frames, the same for all arms but direct in a2, see `Comparison.guidance`."""

STAGE = Stage(
    frames=FRAMES,
    timesteps="mixed",
    held_out=0.02,
    learning_rate=1e-3,
    final_rate=0.02,
    adam_beta2=0.99,
    average_decay=0.995,
    precision="bfloat16",
    gradient_checkpointing=False,
    save_every=100,
    check_every=500,
    log_every=50,
)
"""Settings of every leg; prediction, schedule, known frames, steps, batch and rate come from arm and leg."""


@dataclass(frozen=True)
class Base:
    """An image model: the shipped one, trained further for --steps on pictures of both sizes with this objective."""

    name: str
    prediction: Literal["v", "eps"]
    zero_terminal_snr: bool


V_ZERO = Base("v_zero_snr", "v", True)
V_STANDARD = Base("v_standard", "v", False)
EPS_STANDARD = Base("eps_standard", "eps", False)


@dataclass(frozen=True)
class Leg:
    """One stage of an arm. data: a set of `data.training_clips`. steps: share of --steps."""

    size: int = HIGH
    data: str = "clean"
    steps: float = 1.0
    rate: float = STAGE.learning_rate


@dataclass(frozen=True)
class Arm:
    """A model. start: the arm whose layers are trained further. known_frames: "first", or "none" for direct text to
    video, whose conditioning channels are zero. trains_image_model: the UNet is trained along with the layers."""

    name: str
    legs: tuple[Leg, ...] = (Leg(),)
    base: Base = V_ZERO
    known_frames: str = "first"
    trains_image_model: bool = False
    start: str = ""


MULTI_STEPS = 0.2
"""Steps of the multi-stage arm at the high size."""
FLOPS_RATIO = 3.92
"""FLOPs of a training step at the high size over one at the low size, with temporal layers."""

ARMS = {
    arm.name: arm
    for arm in (
        Arm("factorised"),
        Arm("direct", known_frames="none"),
        Arm("v_standard", base=V_STANDARD),
        Arm("eps_standard", base=EPS_STANDARD),
        Arm("multi_stage", (Leg(LOW, steps=1 - MULTI_STEPS), Leg(steps=MULTI_STEPS))),
        Arm("single_equal_flops", (Leg(steps=MULTI_STEPS + (1 - MULTI_STEPS) / FLOPS_RATIO),)),
        Arm("noisy_data", (Leg(data="noisy"),)),
        Arm("high_quality", (Leg(data="best", steps=0.2, rate=2.5e-4),), start="noisy_data"),
        Arm("random_subset", (Leg(data="random", steps=0.2, rate=2.5e-4),), start="noisy_data"),
        Arm("trained_image_model", trains_image_model=True),
    )
}


class Side(NamedTuple):
    """Videos of one arm. own_frames: see Comparison. guidance: text guidance of the videos; pictures: that of own first
    frames."""

    arm: str
    own_frames: bool = False
    guidance: float = TEXT_GUIDANCE
    pictures: float = PICTURE_GUIDANCE

    @property
    def folder(self) -> str:
        """Return the name of the folder of the videos."""
        return self.title.replace(",", "").replace(" ", "_")

    @property
    def title(self) -> str:
        title = f"{self.arm}, own first frames" if self.own_frames else self.arm
        title = title if self.pictures == PICTURE_GUIDANCE else f"{title} with guidance {self.pictures:g}"
        return title if self.guidance == TEXT_GUIDANCE else f"{title}, guidance {self.guidance:g}"


@dataclass(frozen=True)
class Comparison:
    """One comparison of two arms; the paper says that `first` wins.

    own_frames: each arm begins with the first frame that its image model makes from the caption, or has none. Otherwise
    both begin with the true one. guidance: text guidance of the videos of `second`; those of `first` have the default.
    pictures: guidance of the own first frames of `first`. paper: win rates of quality and faithfulness in %, None where
    the paper has no such arm. equal: what both arms share. fooled_by: what the result does not show.
    """

    key: str
    title: str
    first: str
    second: str
    paper: tuple[float, float] | None
    equal: str
    fooled_by: str
    own_frames: bool = False
    guidance: float = TEXT_GUIDANCE
    pictures: float = PICTURE_GUIDANCE

    @property
    def ablation(self) -> str:
        return self.key[0]

    @property
    def sides(self) -> tuple[Side, Side]:
        first = Side(self.first, self.own_frames, pictures=self.pictures)
        return first, Side(self.second, self.own_frames, self.guidance)


COMPARISONS = (
    Comparison(
        "a1",
        "factorised against direct text to video, guidance 2 everywhere",
        "factorised",
        "direct",
        (70.5, 63.3),
        "image model, clips, steps, trained parameters, sampler, guidance of all frames",
        "direct videos can win on motion, because no first frame holds them",
        own_frames=True,
        pictures=TEXT_GUIDANCE,
    ),
    Comparison(
        "a2",
        "the same, guidance 4 for first frames and for direct",
        "factorised",
        "direct",
        None,
        "image model, clips, steps, trained parameters, sampler, guidance of the first frame",
        "all frames of direct have guidance 4, those of factorised after the first have 2, so direct can win on motion "
        "or lose on quality by guidance alone",
        own_frames=True,
        guidance=PICTURE_GUIDANCE,
    ),
    Comparison(
        "b1",
        "zero-SNR (v) against the standard schedule (eps)",
        "factorised",
        "eps_standard",
        (96.8, 88.3),
        "clips, steps, first frames, timesteps of the sampler",
        "prediction and schedule change together, as in the paper, so b2 is the cleaner test; the shipped image model, "
        "which predicts v, is trained for eps in no more steps than the others, while the paper's predicts eps",
    ),
    Comparison(
        "b2",
        "zero-SNR (v) against the standard schedule (v)",
        "factorised",
        "v_standard",
        None,
        "the same, and the prediction",
        "few sampling steps hide the difference; so does light that never changes",
    ),
    Comparison(
        "c1",
        "multi-stage against the high size alone, equal FLOPs",
        "multi_stage",
        "single_equal_flops",
        (81.8, 84.1),
        "clips, FLOPs of training",
        "the budget is small; with a large one the difference may vanish",
    ),
    Comparison(
        "c2",
        "multi-stage against the high size alone, equal steps",
        "multi_stage",
        "factorised",
        None,
        "clips, steps",
        "the single stage has 2.5 times the FLOPs",
    ),
    Comparison(
        "d1",
        "finetuned on good clips against not finetuned",
        "high_quality",
        "noisy_data",
        (65.1, 79.6),
        "everything before the finetuning",
        "the finetuned arm has more steps; a video that stands still loses motion only and can win on quality",
    ),
    Comparison(
        "d2",
        "finetuned on good clips against as many random ones",
        "high_quality",
        "random_subset",
        None,
        "everything but the choice of clips",
        "good clips are chosen by known truth, not by a score; a video that stands still can win on quality",
    ),
    Comparison(
        "e1",
        "frozen against trained image model, same first frames",
        "factorised",
        "trained_image_model",
        (55.0, 58.1),
        "clips, steps, first frames",
        "damage to first frames is not seen; the image model is trained at the rate of the layers; about 780 prompts "
        "resolve 55 %",
    ),
    Comparison(
        "e2",
        "frozen against trained image model, own first frames",
        "factorised",
        "trained_image_model",
        None,
        "clips, steps",
        "the paper makes all first frames with one image model; here those of the second arm come from the model that "
        "was trained with the layers on, and on videos alone",
        own_frames=True,
    ),
)
ABLATIONS = tuple(dict.fromkeys(each.ablation for each in COMPARISONS))


@dataclass(frozen=True)
class Scale:
    """Size of a run. steps: of training; batch: clips of a step; pictures: of a step of the image models; clips: of the
    training set; subset: of (d); prompts: judged captions, see `data.judged_scenes`; sampling: steps of the sampler."""

    steps: int = 2500
    batch: int = 8
    pictures: int = 32
    clips: int = 2000
    subset: int = 128
    prompts: int = 64
    sampling: int = 25

    def leg_steps(self, leg: Leg) -> int:
        return max(1, round(leg.steps * self.steps))


def settings() -> dict:
    """Return all settings of this page on which trained weights and videos depend."""
    return {
        "stage": asdict(STAGE),
        "arms": [asdict(arm) for arm in ARMS.values()],
        "clips": [asdict(SCENES), UNSEEN, HIGH, LOW],
        "guidance": [TEXT_GUIDANCE, IMAGE_GUIDANCE, PICTURE_GUIDANCE],
    }


def sides(comparisons: Sequence[Comparison]) -> list[Side]:
    """Return all videos that are compared, each once."""
    return sorted({side for each in comparisons for side in each.sides})


def needed(comparisons: tuple[Comparison, ...]) -> list[Arm]:
    """Return the arms of some comparisons, and those that they start from, each once and in order."""
    names = {name for each in comparisons for name in (each.first, each.second)}
    names |= {ARMS[name].start for name in names} - {""}
    return [arm for name, arm in ARMS.items() if name in names]
