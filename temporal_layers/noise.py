"""Noise process that temporal layers were trained with: a schedule of betas, or a flow."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from .backbones.base import STRICT

Beta = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]


@dataclass(frozen=True, config=STRICT)
class Discrete:
    """Variance-preserving noise of a schedule of betas. The defaults are Stable Diffusion's.

    schedule: "linear" if the betas are linear, "scaled_linear" if their square roots are, from `start` to `end` in
    `steps` timesteps. prediction: what the network predicts. zero_terminal_snr: whether the last timestep is pure
    noise.
    """

    schedule: Literal["scaled_linear", "linear"] = "scaled_linear"
    start: Beta = 0.00085
    end: Beta = 0.012
    steps: Annotated[int, Field(ge=2, le=100_000)] = 1000
    prediction: Literal["v", "eps"] = "eps"
    zero_terminal_snr: bool = False
    kind: Literal["discrete"] = "discrete"

    @property
    def betas(self) -> dict[str, str | float | int]:
        """Arguments of diffusion.schedule.betas."""
        return {"schedule": self.schedule, "start": self.start, "end": self.end, "steps": self.steps}


@dataclass(frozen=True, config=STRICT)
class Flow:
    """Flow x = (1 - t) x0 + t eps, whose network predicts eps - x0. shift: shift of the times, 1 = uniform."""

    shift: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = 1.0
    kind: Literal["flow"] = "flow"


Noise = Annotated[Discrete | Flow, Field(discriminator="kind")]
