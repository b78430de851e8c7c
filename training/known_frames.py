"""Which frames of a training clip are given, and how well: patterns, noise augmentation, blur."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..diffusion.known_frames import add_known_noise, interleave, mask_with_noise_level
from ..diffusion.schedule import Schedule

KNOWN = ("first", "first and last", "first few", "every n-th", "mixed", "none")


@dataclass(frozen=True)
class KnownFrames:
    """Which frames a clip gives, and how well.

    pattern: one of KNOWN. factor, margin: for "every n-th", which frames interpolation is given. A factor of 0 draws n
    and the first one. noise: highest timestep of their noise augmentation; exact: share of clips without it.
    downscale: the given frames are blurred as if they were that much smaller (super-resolution). turn_round: share of
    clips with several first frames that run backward through these, so that text and not inertia says what follows.
    """

    pattern: str = "first"
    factor: int = 0
    margin: int = 0
    noise: int = 0
    exact: float = 0.5
    downscale: int = 1
    turn_round: float = 0.0

    def mask(self, frames: int, generator: torch.Generator) -> Tensor:
        """Return bool [frames], True for a given frame."""
        if self.pattern == "mixed":
            return random_known(1, frames, generator)[0]
        mask = torch.zeros(frames, dtype=torch.bool)
        if self.downscale > 1:
            mask[:] = True
        elif self.pattern == "every n-th" and self.factor:
            mask[list(given_positions(frames, self.factor, self.margin))] = True
        elif self.pattern == "every n-th":
            step = draw(2, frames // 2, generator)
            mask[draw(0, step - 1, generator) :: step] = True
        elif self.pattern == "first few":
            mask[: draw(2, frames // 2, generator)] = True
        elif self.pattern != "none":
            mask[0] = True
            mask[-1] = mask[-1] | (self.pattern == "first and last")
        return mask

    def conditioning(self, x0: Tensor, mask: Tensor, schedule: Schedule, generator: torch.Generator) -> Tensor:
        """Return what is given of a clip x0 [T, C, h, w] where `mask`, bool [T], is True: [T, C + 1, h, w].

        The mask channel tells the level of the noise, see `mask_with_noise_level`.
        """
        given, level = x0, 0
        if self.downscale > 1:
            given = blurred(x0, self.downscale)
        if self.noise and torch.rand((), generator=generator) >= self.exact:
            level = draw(0, self.noise, generator)
        given = known_frames(add_known_noise(given, level, schedule, generator)[None], mask[None])[0]
        given[:, -1] = mask_with_noise_level(given[:, -1], level, schedule)
        return given


def known_frames(x0: Tensor, mask: Tensor) -> Tensor:
    """What is known of each clip: the latents of some frames, and the mask, 1 = known.

    x0: [clips, frames, c, h, w]; mask: bool [clips, frames]. Returns [clips, frames, c + 1, h, w], zero but for the
    known frames (Emu Video, section 3.2).
    """
    known = mask[..., None, None, None].to(x0.dtype).expand(-1, -1, 1, *x0.shape[3:])
    return torch.cat([x0 * known, known], 2)


def first_frames(x0: Tensor, dropped: Tensor) -> Tensor:
    """`known_frames` where the first frame is known, and nothing of the clips `dropped`, bool [clips]."""
    mask = torch.zeros(x0.shape[:2], dtype=torch.bool, device=x0.device)
    mask[~dropped, 0] = True
    return known_frames(x0, mask)


def random_known(count: int, frames: int, generator: torch.Generator) -> Tensor:
    """A mask [count, frames] of known frames for `known_frames`, so that one set of layers learns all its uses.

    Of ten clips four have the first frame known, two the first and last, two the first K (2 to half of the frames),
    two every n-th from a random one on.
    """
    if frames < 4:
        raise ValueError(f"Clips of {frames} frames leave too little to fill in: use 4 frames or more.")

    mask = torch.zeros(count, frames, dtype=torch.bool)
    for row, kind in zip(mask, torch.randint(0, 10, (count,), generator=generator).tolist(), strict=True):
        if kind < 4:
            row[0] = True
        elif kind < 6:
            row[0] = row[-1] = True
        elif kind < 8:
            row[: draw(2, frames // 2, generator)] = True
        else:
            step = draw(2, frames // 2, generator)
            row[draw(0, step - 1, generator) :: step] = True
    return mask


def turn_round(mask: Tensor, turned: Tensor) -> Tensor:
    """Return which frame of a clip is seen when, int64 [clips, frames].

    mask: bool [clips, frames] of known frames; turned: bool [clips]. A turned clip whose first K frames are known, and
    no others, runs backward through them to its frame 0, then forward: K-1, ..., 1, 0, 1, 2, ...
    """
    count, frames = mask.shape
    known = mask.sum(1, keepdim=True)
    times = torch.arange(frames).expand(count, frames)
    history = (known > 1) & (mask == (times < known)).all(1, keepdim=True) & turned[:, None]
    return torch.where(history, (times - (known - 1)).abs(), times)


def given_positions(frames: int, factor: int, margin: int) -> range:
    """Return the frames that interpolation is given in a clip of `frames`; ValueError if they do not come out."""
    inner = frames - 1 - 2 * margin
    if inner < 0 or inner % factor:
        raise ValueError(
            f"Clips of {frames} frames do not fit an interpolation by {factor} with margins of {margin}: "
            f"use clips of k * {factor} + {1 + 2 * margin} frames, for example {7 * factor + 1 + 2 * margin}."
        )
    return interleave(inner // factor + 1, factor, (margin, margin))[0]


def blurred(latents: Tensor, factor: int) -> Tensor:
    """Return latents [T, C, h, w] as they look after having been `factor` times smaller."""
    small = F.interpolate(latents, scale_factor=1 / factor, mode="area")
    return F.interpolate(small, size=latents.shape[2:], mode="bilinear")


def draw(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))
