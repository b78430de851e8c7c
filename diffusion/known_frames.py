"""Known frames: their latents, zero-padded to the length of the video, and a mask, 1 = known (Emu Video, section 3.2).

All packages use these names: `known_latents` [T, C, h, w] and `mask` [T, 1, h, w] concatenate to `conditioning`
[T, C + 1, h, w], the channels that follow the noisy latent.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .schedule import Schedule, add_noise


def place(latents: Tensor, positions: Sequence[int], frames: int) -> tuple[Tensor, Tensor]:
    """Place latents [n, C, h, w] at `positions` of a video and return its known latents and mask.

    The latents are in the scale that the network sees. Padding happens in latent space, after encoding and scaling.

    Returns:
        Known latents [frames, C, h, w], zero except at `positions`, and mask [frames, 1, h, w].

    Raises:
        ValueError: for a position outside of the video, or two latents at one position.
    """
    if frames < 1:
        raise ValueError(f"A video needs at least one frame, got {frames}.")
    if latents.ndim != 4 or len(latents) != len(positions):
        raise ValueError(f"Expected latents [{len(positions)}, C, h, w] for {len(positions)} positions, "
                         f"got {list(latents.shape)}.")  # fmt: skip
    if len(set(positions)) != len(positions) or any(not 0 <= p < frames for p in positions):
        raise ValueError(f"Known frames need different positions in 0..{frames - 1}, got {list(positions)}.")
    known_latents = latents.new_zeros(frames, *latents.shape[1:])
    mask = latents.new_zeros(frames, 1, *latents.shape[2:])
    known_latents[list(positions)], mask[list(positions)] = latents, 1.0
    return known_latents, mask


def interleave(count: int, factor: int, margins: tuple[int, int]) -> tuple[range, int]:
    """Return the positions of `count` frames with factor - 1 new ones between neighbours, and the total frame count.

    margins: new frames before the first given frame and after the last. The paper's interpolation model takes 8
    frames to 37 with factor 4 and margins (4, 4): 7 * 3 between, 4 on either side, 8 given (Emu Video, section 3.2).
    """
    if factor < 2:
        raise ValueError(f"A factor of {factor} adds no frames: set it to 2 or more.")
    if min(margins) < 0:
        raise ValueError(f"The margins are {list(margins)}, but a margin is a number of new frames: use 0 or more.")
    before, after = margins
    last = before + (count - 1) * factor
    return range(before, last + 1, factor), last + 1 + after


def add_known_noise(latents: Tensor, level: int, schedule: Schedule, generator: torch.Generator) -> Tensor:
    """Apply noise augmentation to given frames [n, C, h, w]: return their x_t at t = `level`.

    Level 0 returns the frames unchanged. Emu Video trains interpolation with levels drawn from 0..250 and samples at
    100. The noise is independent for every frame. The paper does not say whether the level is an input of the network:
    see `mask_with_noise_level`.
    """
    if level == 0:
        return latents
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    return add_noise(latents, noise, level, schedule)


def mask_with_noise_level(mask: Tensor, level: int, schedule: Schedule) -> Tensor:
    """Return the mask for layers trained to read the noise level from it: alphas_cumprod[level] instead of 1.

    At level 0 the mask stays binary, so these layers also accept ordinary masks.
    """
    return mask * schedule.alphas_cumprod[level].to(mask) if level else mask


def concat_conditioning(known_latents: Tensor, mask: Tensor) -> Tensor:
    """Concatenate [T, C, h, w] and [T, 1, h, w] to the conditioning [T, C + 1, h, w]."""
    return torch.cat((known_latents, mask), dim=1)
