"""Stage 2: the text encoder learns what captions look like, by predicting the mean latent picture of each.

It stands in for the pretrained encoders of larger image models: the UNet starts with words that mean something.
"""

from pathlib import Path

import torch
from torch import nn

from ...training.loop import Settings, train
from ..model.text_encoder import WIDTH, TextEncoder, Vocabulary
from .latents import picture_sets


def main(folder: Path, iterations: int, batch: int, rate: float, seed: int) -> None:
    torch.manual_seed(seed)
    sets = picture_sets(folder)
    encoder = TextEncoder(len(Vocabulary()))
    painter = nn.Sequential(nn.Linear(3 * WIDTH, 512), nn.SiLU(), nn.Linear(512, 512), nn.SiLU(), nn.Linear(512, 1024))

    def loss(step: int, _: range):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        parts = [data.batch(generator, batch // 2) for data in sets]
        x0, weight, tokens = (torch.cat(part) for part in zip(*parts, strict=True))
        features, pooled = encoder(tokens)
        painted = painter(torch.cat([pooled, features.mean(1)], 1)).view(-1, 4, 16, 16)
        error = (painted - x0[:, 0]).square().mean(1) * weight[:, 0]
        return error.mean(), {}

    result = train({"text": encoder, "painter": painter}, loss, Settings(iterations, rate), folder, "text")
    torch.save(result.average["text"], folder / "text_average.pt")
