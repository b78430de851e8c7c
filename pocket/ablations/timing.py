"""Estimate how long the rest of a run takes on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from ...temporal_layers.attach import attach
from ..recipe import RECIPE
from ..stages.layers import fresh_layers
from ..world import FRAMES
from .arms import Lab, shipped_image_model
from .recipes import HIGH, LOW, Arm, Comparison, sides
from .videos import video_path

TRAINED_FACTOR = 1.3  # of a step that also trains the image model
JUDGED = 0.5  # seconds to read and judge a video


def seconds_per_step(lab: Lab, size: int) -> float:
    """Measure a forward and backward pass of one batch of clips."""
    model = shipped_image_model()
    layers = fresh_layers(model, RECIPE.base, 0)
    attach(model.unet, layers, owner=layers)
    context, pooled = model.encode(torch.zeros(lab.scale.batch * FRAMES, 32, dtype=torch.long))
    channels = 2 * model.unet.shape.latent_channels + 1
    x = torch.randn(lab.scale.batch * FRAMES, channels, size // 8, size // 8)
    t = torch.randint(0, 1000, (len(x),))
    return _fastest(lambda: model(x, t, context, pooled).float().square().mean().backward())


def _fastest(run: Callable[[], object], repeats: int = 3) -> float:
    run()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def estimate(
    lab: Lab, arms: Sequence[Arm], seeds: Sequence[int], comparisons: Sequence[Comparison]
) -> dict[str, float]:
    """Return the seconds that are left: "image models", "arms", "videos"."""
    step = {size: seconds_per_step(lab, size) for size in (HIGH, LOW)}
    pictures = sum(step.values()) / 2 * lab.scale.pictures / (lab.scale.batch * FRAMES)
    bases = {arm.base for arm in arms if not lab.base_path(arm.base).exists()}
    training = sum(
        lab.scale.leg_steps(leg) * step[leg.size] * (TRAINED_FACTOR if arm.trains_image_model else 1)
        for arm in arms
        for seed in seeds
        if not lab.is_trained(arm, seed)
        for leg in arm.legs
    )
    missing = sum(
        not video_path(lab, side, prompt, seed).exists()
        for side in sides(comparisons)
        for seed in seeds
        for prompt in range(lab.scale.prompts)
    )
    # A step of the sampler is two forward passes of one clip, which take a third of the training of two clips.
    video = lab.scale.sampling * 2 * step[HIGH] / 3 / lab.scale.batch
    return {
        "image models": len(bases) * lab.scale.steps * pictures,
        "arms": training,
        "videos": missing * (video + JUDGED),
    }
