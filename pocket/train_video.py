"""Stage 4: the temporal layers, with the image model frozen: first frame and text to 8 frames."""

from pathlib import Path

import torch
from torch import Tensor

from ..training.loop import Settings
from ..training.objective import first_frames
from .latents import LatentSet, joined, latent_set
from .train_layers import frozen_image_model, new_layers, train_layers
from .world import FRAMES


def first_known(x0: Tensor, dropped: Tensor, _: torch.Generator) -> Tensor:
    return first_frames(x0, dropped)


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
    train_layers(
        folder, "video", clips(folder), model, layers, (0,), first_known, Settings(iterations, rate), batch, seed
    )
