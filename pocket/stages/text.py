"""Stage 2: the text encoder, trained to predict the mean latent picture of each caption.

It replaces the pretrained text encoders of larger image models, so that the UNet starts with meaningful text features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...training.loop import train
from ..model.text_encoder import WIDTH, TextEncoder, Vocabulary
from ..recipe import TextStage
from .clips import draw_pictures, latent_clips, step_generator
from .run import Run

INNER = 512
NEAR_WEIGHT = 5.0


def make(run: Run, name: str, **options) -> None:
    """Train the stage and save its result. options: see `training.loop.train`."""
    stage = run.stage(name, TextStage)
    batch = stage.settings.batch
    sets = [(latent_clips(run, p.clips).to(run.device), round(p.share * batch), p.has_captions) for p in stage.pictures]
    shape = sets[0][0].latents.shape[2:]
    torch.manual_seed(stage.seed)  # seeded after the clips, because making uncached clips also draws random numbers
    encoder = TextEncoder(len(Vocabulary())).to(run.device)
    painter = nn.Sequential(
        nn.Linear(3 * WIDTH, INNER), nn.SiLU(), nn.Linear(INNER, INNER), nn.SiLU(), nn.Linear(INNER, shape.numel())
    ).to(run.device)

    def loss(step: int, positions: range) -> tuple[Tensor, dict[str, float]]:
        x0, near, tokens, _ = draw_pictures(sets, step_generator(stage.seed, step, run.device))
        features, pooled = encoder(tokens)
        painted = painter(torch.cat([pooled, features.mean(1)], 1)).view(-1, *shape)
        error = (painted - x0).square().mean(1) * torch.where(near, NEAR_WEIGHT, 1.0)
        return error.mean(), {}

    result = train({"text": encoder, "painter": painter}, loss, stage.settings, run.folder, run.name(name), **options)
    if not result.stopped:
        run.save(name, result.average["text"])
