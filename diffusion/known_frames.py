"""Frames that the model is given: zero-padded latents and a mask, 1 = known (Emu Video, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .schedule import Schedule, add_noise


def place(latents: Tensor, positions: Sequence[int], frames: int) -> tuple[Tensor, Tensor]:
    """[n, C, h, w] -> latents [frames, C, h, w], zero but at `positions`, and mask [frames, 1, h, w].

    The latents are in the scale the network sees; zeros are added in latent space, after encoding and scaling.
    Raises ValueError for a position outside of the video, and unless each latent has a position of its own.
    """
    if frames < 1:
        raise ValueError(f"A video needs at least one frame, got {frames}.")
    if latents.ndim != 4 or len(latents) != len(positions):
        raise ValueError(f"Expected latents [{len(positions)}, C, h, w] for {len(positions)} positions, "
                         f"got {list(latents.shape)}.")  # fmt: skip
    if len(set(positions)) != len(positions) or any(not 0 <= p < frames for p in positions):
        raise ValueError(f"Known frames need different positions in 0..{frames - 1}, got {list(positions)}.")
    known = latents.new_zeros(frames, *latents.shape[1:])
    mask = latents.new_zeros(frames, 1, *latents.shape[2:])
    known[list(positions)], mask[list(positions)] = latents, 1.0
    return known, mask


def first_frame(latent: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """[1, C, h, w] -> latents [frames, C, h, w], zero but for frame 0, and mask [frames, 1, h, w]."""
    if latent.ndim != 4 or latent.shape[0] != 1:
        raise ValueError(f"Expected the latent of one frame, [1, C, h, w], got {list(latent.shape)}.")
    return place(latent, [0], frames)


def interleave(count: int, factor: int, margins: tuple[int, int]) -> tuple[range, int]:
    """Positions of `count` frames with factor - 1 new ones between neighbours, and the frames in all.

    margins: new frames before the first given frame and after the last. The paper's interpolation model takes 8
    frames to 37 with factor 4 and margins (4, 4): 7 * 3 between, 4 on either side, 8 given (Emu Video, section 3.2).
    """
    if factor < 2:
        raise ValueError(f"A factor of {factor} adds no frames: set it to 2 or more.")
    if min(margins) < 0:
        raise ValueError(f"A margin is a number of new frames, 0 or more, but the margins are {list(margins)}.")
    before, after = margins
    last = before + (count - 1) * factor
    return range(before, last + 1, factor), last + 1 + after


def add_known_noise(latents: Tensor, level: int, schedule: Schedule, generator: torch.Generator) -> Tensor:
    """Noise augmentation of given frames [n, C, h, w]: their x_t at t = `level`, or the frames as they are for 0.

    Emu Video trains interpolation with levels drawn from 0..250 and samples at 100. The noise is independent for
    every frame. Whether the network is told the level the paper does not say: see `tell_noise`.
    """
    if level == 0:
        return latents
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    return add_noise(latents, noise, level, schedule)


def tell_noise(mask: Tensor, level: int, schedule: Schedule) -> Tensor:
    """The mask for layers that are told the level: a known frame's 1 becomes its share of signal, alphas_cumprod.

    Frames that are known exactly keep their 1, so that such layers read a binary mask as any others do.
    """
    return mask * schedule.alphas_cumprod[level].to(mask) if level else mask


def concat_known(known: Tensor, mask: Tensor) -> Tensor:
    """[T, C, h, w] and [T, 1, h, w] -> [T, C+1, h, w], the channels that follow the noisy latent."""
    return torch.cat((known, mask), dim=1)
