"""The denoising objective of temporal layers: timesteps, dropped conditioning, known frames, target and error.

Every clip has a random generator on the CPU. So its sample is the same on every device, in every part of a batch and
for any number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..diffusion.schedule import Schedule, add_noise, v_target, x0_from_v
from .clips import Clip
from .known_frames import KnownFrames, turn_round

TIMESTEPS = {"noisy": 0.45, "uniform": 1.0, "mixed": 0.0}
"""Timestep distributions by name: exponent of steps * u^exponent. 0: the other two, for half of the clips each."""
BANDS = (0, 250, 500, 750, 1000)  # limits in thousandths of the timesteps
PATCH = 4  # latents; the mean of a patch shows a drift that single latents hide in their noise


@dataclass(frozen=True)
class Dropout:
    """Shares of clips without text, and without text and known frames.

    Equation 1 of Emu Video evaluates the model without text and without both, but never without only the image.
    """

    text: float = 0.1
    both: float = 0.1


def sample_timesteps(
    count: int, steps: int, generator: torch.Generator, bias: float = 0.45, last: float = 0.05
) -> Tensor:
    """Return timesteps [count] in 0..steps-1, drawn as steps * u^bias; a share of `last` is exactly the last one."""
    device = generator.device
    t = (steps * torch.rand(count, generator=generator, device=device) ** bias).long().clamp(max=steps - 1)
    is_last = torch.rand(count, generator=generator, device=device) < last
    return torch.where(is_last, steps - 1, t)


def drop_conditioning(count: int, dropout: Dropout, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return two bool masks [count]: clips without text, and clips also without known frames."""
    u = torch.rand(count, generator=generator)
    return u < dropout.text + dropout.both, u < dropout.both


def v_error(
    denoiser: Callable[[Tensor, Tensor], Tensor],
    x0: Tensor,
    t: Tensor,
    schedule: Schedule,
    generator: torch.Generator,
    *,
    known: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the squared error of the v-prediction.

    x0: [n, c, h, w] clean latents; t: [n] timesteps (equal for the frames of one clip); known: [n, c + 1, h, w]
    known-frame latents and mask, appended to the channels. The noise is independent for every frame (Emu Video,
    section 3.2). Returns the error [n, c, h, w], the prediction and the noisy input x_t.
    """
    noise = torch.randn(x0.shape, generator=generator, device=x0.device)
    noisy = add_noise(x0, noise, t, schedule)
    inputs = noisy if known is None else torch.cat([noisy, known], 1)
    prediction = denoiser(inputs, t).float()
    return (prediction - v_target(x0, noise, t, schedule)).square(), prediction, noisy


@dataclass(frozen=True)
class Sample:
    """Network input and target of one clip of a batch.

    x0, noisy, target: [T, C, h, w]; conditioning: [T, C + 1, h, w] or None; weight: [T, h, w] or None.
    Of a whole batch, see `stacked`, all have one more dimension, and t is [n].
    """

    x0: Tensor
    noisy: Tensor
    target: Tensor
    t: int | Tensor
    conditioning: Tensor | None
    weight: Tensor | None
    has_text: bool

    def to(self, device: torch.device) -> Sample:
        tensors = {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}
        return replace(self, **{name: value.to(device) for name, value in tensors.items()})  # pyright: ignore


def stacked(samples: Sequence[Sample]) -> Sample:
    """Return a batch as one sample. Its text counts as present; a clip without weights has weight 1."""

    def stack(name: str) -> Tensor | None:
        values = [value for sample in samples if (value := getattr(sample, name)) is not None]
        return torch.stack(values) if values else None

    weights = None
    if any(sample.weight is not None for sample in samples):
        weights = torch.stack([s.x0.new_ones(s.x0[:, 0].shape) if s.weight is None else s.weight for s in samples])
    return Sample(
        *(torch.stack([getattr(sample, name) for sample in samples]) for name in ("x0", "noisy", "target")),
        t=torch.tensor([sample.t for sample in samples]),
        conditioning=stack("conditioning"),
        weight=weights,
        has_text=True,
    )


@dataclass(frozen=True)
class Objective:
    """Training objective of temporal layers.

    prediction: "v" or "eps". timesteps: one of TIMESTEPS. last: share of clips at the last timestep. drift_weight: loss
    weight of the error of x0 averaged over patches, against slow changes of the background (v only).
    """

    schedule: Schedule
    prediction: str = "v"
    timesteps: str = "noisy"
    last: float = 0.05
    dropout: Dropout = Dropout()
    known: KnownFrames = field(default_factory=KnownFrames)
    drift_weight: float = 0.0

    def draw(self, clip: Clip, generator: torch.Generator, *, conditioned: bool = True, t: int | None = None) -> Sample:
        """Draw timestep, noise, known frames and dropped conditioning of one clip.

        conditioned: whether the layers read known frames. t: a fixed timestep for loss checks. Then no
        conditioning is dropped.
        """
        no_text, nothing = (bool(each) for each in drop_conditioning(1, self.dropout, generator))
        drawn = int(sample_timesteps(1, len(self.schedule), generator, self._bias(generator), self.last))
        if t is None:
            t = drawn
        else:
            no_text = nothing = False
        x0, weight, conditioning = clip.latents, clip.weight, None
        if conditioned:
            known = clip.upsampled if self.known.downscale > 1 else x0
            assert known is not None  # `stage_info` refuses clips without a smaller version
            mask = self.known.mask(len(x0), generator)
            order = turn_round(mask[None], torch.rand(1, generator=generator) < self.known.turn_round)[0]
            x0, weight = x0[order], None if weight is None else weight[order]
            conditioning = self.known.conditioning(known[order], mask & (not nothing), self.schedule, generator)
        noise = torch.randn(x0.shape, generator=generator)
        target = noise if self.prediction == "eps" else v_target(x0, noise, t, self.schedule)
        return Sample(x0, add_noise(x0, noise, t, self.schedule), target, t, conditioning, weight, not no_text)

    def towards(self, output: Tensor, sample: Sample) -> Sample:
        """Return a sample whose target is an output of the network."""
        if self.prediction == "eps":
            return replace(sample, target=output)
        return replace(sample, target=output, x0=x0_from_v(sample.noisy, output, sample.t, self.schedule))

    def error(self, prediction: Tensor, sample: Sample) -> Tensor:
        """Return the squared error, mean over channels and weighted: [T, h, w], or [n, T, h, w] of a batch."""
        error = (prediction - sample.target).square().mean(-3)
        return error if sample.weight is None else error * sample.weight

    def drift(self, prediction: Tensor, sample: Sample) -> Tensor:
        """Return the squared error of x0, averaged over patches first: a scalar. Latents of weight 0 do not count."""
        error = x0_from_v(sample.noisy, prediction, sample.t, self.schedule) - sample.x0
        if sample.weight is not None:
            error = error * (sample.weight > 0).unsqueeze(-3)
        return F.avg_pool2d(error.flatten(0, -4), min(PATCH, *error.shape[-2:])).square().mean()

    def band(self, t: int) -> str:
        """Return the name of the noise band of a timestep, for the log."""
        if t == len(self.schedule) - 1:
            return "loss_last"
        thousandth = 1000 * t // len(self.schedule)
        low = max(edge for edge in BANDS if edge <= thousandth)
        return f"loss_{low}_{BANDS[BANDS.index(low) + 1]}"

    def _bias(self, generator: torch.Generator) -> float:
        if self.timesteps != "mixed":
            return TIMESTEPS[self.timesteps]
        return TIMESTEPS["noisy"] if torch.rand((), generator=generator) < 0.5 else TIMESTEPS["uniform"]
