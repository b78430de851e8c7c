"""Stage 5: the interpolation layers, from the video layers on: 8 given frames and text to 37 frames.

The given frames are noised as the node Interpolation Conditioning noises them: at one level for a clip, drawn for each
frame by itself. The mask tells the network the level.
"""

from pathlib import Path

import torch
from torch import Tensor

from ...diffusion.known_frames import add_known_noise, mask_with_noise_level
from ...diffusion.schedule import Schedule
from ...training.known_frames import known_frames
from ...training.loop import Settings
from ..world import CROSSING, FINE_TIMES, GIVEN
from .latents import LatentSet, joined, latent_set
from .layers import frozen_image_model, new_layers, train_layers

NOISE = 250  # highest level of the given frames' noise, as in the paper
EXACT = 0.5  # share of clips whose given frames have none


def fine_clips(folder: Path) -> LatentSet:
    """Clips of 37 frames; three in eight show shapes that cross, which the world of single frames and videos lacks."""
    fine = {"frames": len(FINE_TIMES), "times": FINE_TIMES}
    return joined(
        latent_set(folder, "fine", seed=15, count=1_500, **fine),
        latent_set(folder, "fine_crossing", seed=16, count=900, motions=CROSSING, **fine),
    )


def given_frames(
    x0: Tensor, levels: Tensor, dropped: Tensor, schedule: Schedule, generator: torch.Generator, told: bool
) -> Tensor:
    """What the layers are given of clips x0 [clips, 37, c, h, w]: every fourth frame, noised, and the mask.

    levels: int [clips], timestep of the noise; dropped: bool [clips], clips of which nothing is given; told: whether
    the mask tells the level. Returns [clips, 37, c + 1, h, w].
    """
    noised = [
        add_known_noise(clip, level, schedule, generator) for clip, level in zip(x0, levels.tolist(), strict=True)
    ]
    mask = torch.zeros(x0.shape[:2], dtype=torch.bool)
    mask[:, list(GIVEN)] = ~dropped[:, None]
    given = known_frames(torch.stack(noised), mask)
    if told:
        for clip, level in zip(given, levels.tolist(), strict=True):
            clip[:, -1] = mask_with_noise_level(clip[:, -1], level, schedule)
    return given


def main(folder: Path, iterations: int, batch: int, rate: float, seed: int, told: bool = True) -> None:
    torch.manual_seed(seed)
    clips = fine_clips(folder)
    model = frozen_image_model()
    layers = new_layers(model, len(FINE_TIMES), seed)
    layers.load_state_dict(torch.load(folder / "video_average.pt", weights_only=True))
    schedule = Schedule.from_betas(zero_terminal_snr=True)

    def arrange(x0: Tensor, weight: Tensor, dropped: Tensor, generator: torch.Generator):
        levels = torch.randint(0, NOISE + 1, (batch,), generator=generator)
        levels[torch.rand(batch, generator=generator) < EXACT] = 0
        return x0, weight, given_frames(x0, levels, dropped, schedule, generator, told)

    settings = Settings(iterations, rate)
    train_layers(folder, "interpolation", clips, model, layers, GIVEN, arrange, settings, batch, seed)
