"""Given frames of training clips: patterns and noise augmentation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion.known_frames import add_known_noise, interleave, mask_with_noise_level
from ..diffusion.schedule import Schedule

KNOWN = ("first", "first and last", "first few", "every n-th", "mixed", "none")


@dataclass(frozen=True)
class KnownFrames:
    """Pattern and quality of the given frames of a clip.

    pattern: one of KNOWN. factor, margin: the frames that "every n-th" gives; a factor of 0 draws n and the first
    frame. noise: highest timestep of their noise augmentation; exact: share of clips without it.
    downscale: factor of super-resolution; above 1 all frames are given. turn_round: share of clips with several known
    first frames that play them backward first, so that layers follow the text instead of continuing the motion.
    """

    pattern: str = "first"
    factor: int = 0
    margin: int = 0
    noise: int = 0
    exact: float = 0.5
    downscale: int = 1
    turn_round: float = 0.0

    def mask(self, frames: int, generator: torch.Generator) -> Tensor:
        """Return bool [frames], True for a given frame. Raises ValueError for too few frames."""
        if self.pattern == "mixed":
            return random_known(1, frames, generator)[0]
        mask = torch.zeros(frames, dtype=torch.bool)
        if self.downscale == 1 and (self.pattern == "first few" or (self.pattern == "every n-th" and not self.factor)):
            _check_room(frames)
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

    def conditioning(self, latents: Tensor, mask: Tensor, schedule: Schedule, generator: torch.Generator) -> Tensor:
        """Return the conditioning [T, C + 1, h, w] of a clip; `mask`, bool [T], marks its given frames.

        latents: [T, C, h, w], of the clip or, for super-resolution, of its smaller version, upsampled. The mask channel
        states the noise level, see `mask_with_noise_level`.
        """
        level = 0
        if self.noise and torch.rand((), generator=generator) >= self.exact:
            level = draw(0, self.noise, generator)
        given = known_frames(add_known_noise(latents, level, schedule, generator)[None], mask[None])[0]
        given[:, -1] = mask_with_noise_level(given[:, -1], level, schedule)
        return given


def known_frames(x0: Tensor, mask: Tensor) -> Tensor:
    """Return the conditioning of each clip: the latents of its known frames, and the mask, 1 = known.

    x0: [clips, frames, c, h, w]; mask: bool [clips, frames]. Returns [clips, frames, c + 1, h, w], zero except at the
    known frames (Emu Video, section 3.2).
    """
    known = mask[..., None, None, None].to(x0.dtype).expand(-1, -1, 1, *x0.shape[3:])
    return torch.cat([x0 * known, known], 2)


def first_frames(x0: Tensor, dropped: Tensor) -> Tensor:
    """Return `known_frames` with the first frame known, and no frame of the clips `dropped`, bool [clips]."""
    mask = torch.zeros(x0.shape[:2], dtype=torch.bool, device=x0.device)
    mask[~dropped, 0] = True
    return known_frames(x0, mask)


def random_known(count: int, frames: int, generator: torch.Generator) -> Tensor:
    """Return a random mask [count, frames] for `known_frames`, so that one set of layers learns all patterns.

    Four in ten clips know the first frame, two the first and last, two the first K (2 to half of the frames), and two
    every n-th frame from a random start.
    """
    _check_room(frames)
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


def _check_room(frames: int) -> None:
    if frames < 4:
        raise ValueError(f"Clips of {frames} frames leave too little to fill in: use 4 frames or more.")


def turn_round(mask: Tensor, turned: Tensor) -> Tensor:
    """Return the order of each clip's frames, int64 [clips, frames].

    mask: bool [clips, frames] of known frames; turned: bool [clips]. A turned clip whose only known frames are the
    first K runs backward through them to frame 0, then forward: K-1, ..., 1, 0, 1, 2, ...
    """
    count, frames = mask.shape
    known = mask.sum(1, keepdim=True)
    times = torch.arange(frames).expand(count, frames)
    history = (known > 1) & (mask == (times < known)).all(1, keepdim=True) & turned[:, None]
    return torch.where(history, (times - (known - 1)).abs(), times)


def given_positions(frames: int, factor: int, margin: int) -> range:
    """Return the positions of the frames given for interpolation. Raises ValueError if `frames` does not fit."""
    inner = frames - 1 - 2 * margin
    if inner < 0 or inner % factor:
        raise ValueError(
            f"Clips of {frames} frames do not fit an interpolation by {factor} with margins of {margin}: "
            f"use clips of k * {factor} + {1 + 2 * margin} frames, for example {7 * factor + 1 + 2 * margin}."
        )
    return interleave(inner // factor + 1, factor, (margin, margin))[0]


def draw(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))
