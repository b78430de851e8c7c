"""Sample videos during training, by DDIM with guidance by equation 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion.guidance import emu_guidance
from ..diffusion.sampler import ddim
from ..temporal_layers.info import PAPER_GUIDANCE
from .clips import Conds
from .task import Task

SEED = 0x5A3D
COUNT = 4


class _Stopped(Exception):
    pass


@dataclass(frozen=True)
class Samples:
    """Sample videos at one step. latents: [n, T, C, h, w], in the scale of the network. step: step of the stage."""

    stage: str
    step: int
    latents: Tensor
    captions: list[str]


@dataclass(frozen=True)
class Sampling:
    """Settings of sample videos: made every `every` training steps, with `steps` sampling steps, for `texts`.

    Without texts, those of the first clips in the loss check are used. Known frames come from these clips, with the
    pattern used in training. Seeds are fixed. guidance: text and image weight.
    """

    every: int
    steps: int
    texts: tuple[Conds, ...] = ()
    captions: tuple[str, ...] = ()
    guidance: tuple[float, float] = PAPER_GUIDANCE

    @torch.no_grad()
    def make(
        self,
        task: Task,
        numbers: Sequence[int],
        stage: str,
        step: int,
        should_stop: Callable[[], bool] | None = None,
    ) -> Samples | None:
        """Sample the videos with the current weights.

        should_stop: called before each sampling step. If it returns True, the result is None.
        """
        shape = task.clips.shape(numbers[0])  # the videos make one tensor, clips of other sizes are left out
        numbers = [number for number in numbers if task.clips.shape(number) == shape]
        numbers = [numbers[i % len(numbers)] for i in range(len(self.texts) or min(COUNT, len(numbers)))]
        texts = self.texts or tuple(task.clips[number].text for number in numbers)
        captions = list(self.captions) or [task.clips.caption(number) for number in numbers]
        chosen = enumerate(zip(numbers, texts, strict=True))
        try:
            videos = [self._video(task, n, text, place, should_stop) for place, (n, text) in chosen]
        except _Stopped:
            return None
        return Samples(stage, step, torch.stack(videos), captions)

    def _video(
        self, task: Task, number: int, text: Conds, place: int, should_stop: Callable[[], bool] | None
    ) -> Tensor:
        drawn, schedule, null = (
            task.draw(task.clips[number], SEED + place, t=0),
            task.objective.schedule,
            task.clips.null,
        )
        known = None if drawn.conditioning is None else drawn.conditioning[None].to(task.device)
        nothing = None if known is None else torch.zeros_like(known)
        text_weight, image_weight = self.guidance

        def model(x: Tensor, t: int) -> Tensor:
            if should_stop and should_stop():
                raise _Stopped
            times = torch.tensor([t], device=task.device)
            uncond, full = task.network(x[None], times, nothing, [null]), task.network(x[None], times, known, [text])
            image = uncond if known is None else task.network(x[None], times, known, [null])
            return emu_guidance(uncond, image, full, image_weight, text_weight)[0]

        noise = torch.randn(drawn.x0.shape, generator=torch.Generator().manual_seed(SEED + place)).to(task.device)
        return ddim(
            model, noise, schedule, schedule.trailing_timesteps(self.steps), prediction=task.objective.prediction
        ).cpu()
