"""Figures that show whether motion is learned: the loss of held-out clips, in order and shuffled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from .clips import Clip, mixed_seed
from .log import Figure
from .task import Task

LEVELS = (0.35, 0.55, 0.75, 0.95)  # share of all timesteps, at which frames are still undecided


def check(task: Task, numbers: Sequence[int]) -> dict[str, Figure]:
    """Return the loss of clips (`check_loss`), the loss with their frames shuffled, and the ratio `motion`.

    Timesteps, noise and shuffles depend only on the clips' numbers, so the checks of a run are comparable. A `motion`
    of 1 means that the layers ignore the order of frames; it grows as they learn motion.
    """
    sums = [0.0, 0.0]
    for place, number in enumerate(numbers):
        clip, t = task.clips[number], int(LEVELS[place % len(LEVELS)] * len(task.objective.schedule))
        for which, each in enumerate((clip, shuffled(clip, number))):
            loss, _ = task.predict([task.draw(each, mixed_seed(number, 1), t)], [clip.conditioning()])
            sums[which] += loss.item()
    count = len(numbers)
    return {
        "check_loss": (sums[0], count),
        "check_shuffled": (sums[1], count),
        "motion": sums[1] / sums[0] if sums[0] else 1.0,
    }


def shuffled(clip: Clip, seed: int) -> Clip:
    """Return the clip with its frames in another order. The first frame, which is usually given, keeps its position."""
    frames = len(clip.latents)
    generator = torch.Generator().manual_seed(mixed_seed(seed, 2))
    order = torch.arange(frames)
    if frames < 3:
        order = order.flip(0)
    while frames > 2 and torch.equal(order, torch.arange(frames)):
        order = torch.cat([order[:1], 1 + torch.randperm(frames - 1, generator=generator)])
    weight, upsampled = (None if each is None else each[order] for each in (clip.weight, clip.upsampled))
    return replace(clip, latents=clip.latents[order], weight=weight, upsampled=upsampled)
