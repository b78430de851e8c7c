"""Stage 5: the interpolation layers, from the video layers on: 8 given frames and text to 37 frames.

The given frames are noised as the node Interpolation Conditioning noises them: at one level for a clip, drawn for each
frame by itself, and the network is not told the level.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..diffusion.known_frames import add_known_noise, interleave
from ..diffusion.schedule import Schedule, x0_from_v
from ..training.loop import Settings, train
from ..training.objective import Dropout, drop_conditioning, known_frames, sample_timesteps, v_error
from .latents import LatentSet, latent_set
from .text_encoder import pad_tokens
from .train_video import PATCH, PATCH_WEIGHT, frozen_image_model, new_layers
from .vocabulary import MOTIONS
from .world import CROSSING, FINE_TIMES, FRAMES

GIVEN, LENGTH = interleave(FRAMES, factor=4, margins=(4, 4))
NOISE = 250  # highest level of the given frames' noise, as in the paper


def fine_clips(folder: Path) -> LatentSet:
    """Clips of 37 frames; one in six shows shapes that cross, which the world of single frames and videos lacks."""
    fine = {"frames": LENGTH, "times": FINE_TIMES}
    sets = [
        latent_set(folder, name, seed, count, motions=motions, **fine)
        for name, seed, count, motions in (("fine", 15, 1_500, MOTIONS), ("fine_crossing", 16, 300, CROSSING))
    ]
    return LatentSet(*(torch.cat([getattr(s, name) for s in sets]) for name in ("latents", "near", "tokens")))


def given_frames(x0: Tensor, levels: Tensor, dropped: Tensor, schedule: Schedule, generator: torch.Generator) -> Tensor:
    """What the layers are given of clips x0 [clips, 37, c, h, w]: every fourth frame, noised, and the mask.

    levels: int [clips], timestep of the noise; dropped: bool [clips], clips of which nothing is given. Returns
    [clips, 37, c + 1, h, w].
    """
    noised = [
        add_known_noise(clip, level, schedule, generator) for clip, level in zip(x0, levels.tolist(), strict=True)
    ]
    mask = torch.zeros(x0.shape[:2], dtype=torch.bool)
    mask[:, list(GIVEN)] = ~dropped[:, None]
    return known_frames(torch.stack(noised), mask)


def main(folder: Path, iterations: int, batch: int, rate: float, seed: int) -> None:
    torch.manual_seed(seed)
    clips = fine_clips(folder)
    model = frozen_image_model()
    layers = new_layers(model, seed)
    layers.load_state_dict(torch.load(folder / "video_average.pt", weights_only=True))
    layers.frames = LENGTH
    run = torch.compile(model)
    schedule = Schedule.from_betas(zero_terminal_snr=True)
    empty = torch.tensor(pad_tokens([]))
    new = torch.ones(LENGTH, dtype=torch.bool)
    new[list(GIVEN)] = False

    def loss(step: int):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        x0, weight, tokens = clips.batch(generator, batch)
        no_text, nothing = drop_conditioning(batch, Dropout(), generator)
        tokens = torch.where(no_text[:, None], empty, tokens)
        with torch.no_grad():
            context, pooled = (z.repeat_interleave(LENGTH, 0) for z in model.encode(tokens))
        t = sample_timesteps(batch, len(schedule), generator)
        levels = torch.randint(0, NOISE + 1, (batch,), generator=generator)
        given = given_frames(x0, levels, nothing, schedule, generator)
        x0, times = x0.flatten(0, 1), t.repeat_interleave(LENGTH)
        error, v, noisy = v_error(
            lambda x, t: run(x, t, context, pooled), x0, times, schedule, generator, given.flatten(0, 1)
        )
        patches = F.avg_pool2d(x0_from_v(noisy, v, times, schedule) - x0, PATCH).square().mean()
        error = (error.mean(1) * weight.flatten(0, 1)).mean((1, 2)).unflatten(0, (batch, LENGTH))
        figures = {
            "error_new": error[:, new].mean().item(),
            "error_given": error[:, ~new].mean().item(),
            "error_patches": patches.item(),
        }
        return error.mean() + PATCH_WEIGHT * patches, figures

    averaged = train({"layers": layers}, loss, Settings(iterations, rate), folder, "interpolation")
    torch.save(averaged["layers"], folder / "interpolation_average.pt")
