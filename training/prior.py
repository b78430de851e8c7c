"""Prior preservation: layers keep the motions that they know, because videos of these are trained on as well.

Training on clips of one motion makes layers forget all others. As DreamBooth (Ruiz et al. 2023) does for image models,
the layers make videos before training, and the clips and these videos are trained on together. The target of these
videos is the output of the layers before training, as in Learning without Forgetting (Li and Hoiem 2016). It has no
noise, so layers that have forgotten nothing are not changed by it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

import torch
from torch import Tensor

from ..temporal_layers.layers import TemporalLayers
from .clips import Clip, Clips, Conds, Shape
from .objective import Sample
from .task import Task

CHOICE = re.compile(r"\{([^{}]*)\}")


def expand(prompts: tuple[str, ...], count: int, seed: int) -> list[str]:
    """Return `count` texts, the prompts in turn, with one choice of each {a|b|c} (ComfyUI's dynamic prompts)."""
    generator = torch.Generator().manual_seed(seed)

    def chosen(match: re.Match) -> str:
        choices = match.group(1).split("|")
        return choices[int(torch.randint(len(choices), (1,), generator=generator))]

    return [CHOICE.sub(chosen, prompts[number % len(prompts)]) for number in range(count)]


class Joined:
    """Clips of a dataset, followed by those of another one of the same length and rate."""

    def __init__(self, clips: Clips, more: Clips):
        self.clips, self.more = clips, more
        self.frames, self.fps, self.null, self.downscale = clips.frames, clips.fps, clips.null, clips.downscale
        self.key = hashlib.sha256(f"{clips.key} {more.key}".encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.clips) + len(self.more)

    def __getitem__(self, number: int) -> Clip:
        """Return a clip. Those of `more` have the sizes of the first clip, since all of a batch have some or none."""
        clips, place = self._at(number)
        if clips is self.clips:
            return clips[place]
        return replace(clips[place], sizes=self.clips[0].sizes, is_prior=True)

    def shape(self, number: int) -> Shape:
        clips, place = self._at(number)
        return clips.shape(place)

    def caption(self, number: int) -> str:
        clips, place = self._at(number)
        return clips.caption(place)

    def _at(self, number: int) -> tuple[Clips, int]:
        own = len(self.clips)
        return (self.clips, number) if number < own else (self.more, number - own)


class Teacher:
    """The layers as they were before the stage."""

    def __init__(self, layers: TemporalLayers, task: Task):
        self.layers, self.task = layers, task
        self.start = {name: p.detach().clone() for name, p in self._trained().items()}

    @torch.no_grad()
    def taught(self, samples: list[Sample], texts: list[Conds]) -> list[Sample]:
        """Return the samples with the teacher's output as target."""
        self._exchange()
        try:
            outputs = self.task.outputs(samples, texts)[1].cpu()
        finally:
            self._exchange()
            torch.clear_autocast_cache()  # of half-precision copies of the teacher's weights
        return [self.task.objective.towards(out, sample) for out, sample in zip(outputs, samples, strict=True)]

    def _trained(self) -> dict[str, Tensor]:
        return {name: p for name, p in self.layers.named_parameters() if p.requires_grad}

    def _exchange(self) -> None:
        """Exchange the present weights and those of the start, without a copy."""
        for name, parameter in self._trained().items():
            parameter.data, self.start[name] = self.start[name], parameter.data
