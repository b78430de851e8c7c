"""Stage 4: the temporal layers, with the image model frozen: known frames and text to 8 frames.

Mostly the first frame is known; else first and last, the first few, or every n-th, so that one file of layers animates
an image, joins two and extends a video. Where the first few are known, half of the clips turn round behind them: an
extension does what its caption says, and not what the frames before it did.
"""

from pathlib import Path

import torch
from torch import Tensor

from ...training.known_frames import known_frames, random_known
from ...training.loop import Settings
from ..world import FRAMES
from .latents import LatentSet, joined, latent_set
from .layers import frozen_image_model, new_layers, train_layers


def turn_round(mask: Tensor, turned: Tensor) -> Tensor:
    """Which frame of a clip is seen when, int64 [clips, frames].

    mask: bool [clips, frames] of known frames; turned: bool [clips]. A turned clip whose first K frames are known, and
    no others, runs backward through them to its frame 0, then forward: K-1, ..., 1, 0, 1, 2, ...
    """
    count, frames = mask.shape
    known = mask.sum(1, keepdim=True)
    times = torch.arange(frames).expand(count, frames)
    history = (known > 1) & (mask == (times < known)).all(1, keepdim=True) & turned[:, None]
    return torch.where(history, (times - (known - 1)).abs(), times)


def arrange(x0: Tensor, weight: Tensor, dropped: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    count, frames = x0.shape[:2]
    mask = random_known(count, frames, generator)
    order = turn_round(mask, torch.rand(count, generator=generator) < 0.5)
    clip = torch.arange(count)[:, None]
    x0 = x0[clip, order]
    return x0, weight[clip, order], known_frames(x0, mask & ~dropped[:, None])


def clips(folder: Path) -> LatentSet:
    """Spinning is learned last of all motions: two clips in five show it."""
    return joined(
        latent_set(folder, "clips", seed=13, count=4_500),
        latent_set(folder, "spinning", seed=17, count=2_500, motions=("spinning",)),
    )


def main(folder: Path, iterations: int, batch: int, rate: float, seed: int) -> None:
    torch.manual_seed(seed)
    model = frozen_image_model()
    layers = new_layers(model, FRAMES, seed)
    train_layers(folder, "video", clips(folder), model, layers, (0,), arrange, Settings(iterations, rate), batch, seed)
