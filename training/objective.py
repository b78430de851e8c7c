"""The denoising objective of the temporal layers: which timesteps, which conditioning, which error."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion.schedule import Schedule, add_noise, v_target


@dataclass(frozen=True)
class Dropout:
    """Share of clips whose text, or whose text and known frames, are dropped.

    Eq. 1 of Emu Video needs the model without text and without both, never without the image alone.
    """

    text: float = 0.1
    both: float = 0.1


def sample_timesteps(count: int, steps: int, generator: torch.Generator, bias: float = 0.45) -> Tensor:
    """Timesteps [count] in 0..steps-1, favouring noise: steps * u^bias, and one in twenty exactly the last one."""
    t = (steps * torch.rand(count, generator=generator) ** bias).long().clamp(max=steps - 1)
    last = torch.rand(count, generator=generator) < 0.05
    return torch.where(last, steps - 1, t)


def drop_conditioning(count: int, dropout: Dropout, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two bool masks [count]: clips whose text is dropped, clips whose known frames are dropped as well."""
    u = torch.rand(count, generator=generator)
    return u < dropout.text + dropout.both, u < dropout.both


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

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    mask = torch.zeros(count, frames, dtype=torch.bool)
    for row, kind in zip(mask, torch.randint(0, 10, (count,), generator=generator).tolist(), strict=True):
        if kind < 4:
            row[0] = True
        elif kind < 6:
            row[0] = row[-1] = True
        elif kind < 8:
            row[: draw(2, frames // 2)] = True
        else:
            step = draw(2, frames // 2)
            row[draw(0, step - 1) :: step] = True
    return mask


def v_error(
    denoiser: Callable[[Tensor, Tensor], Tensor],
    x0: Tensor,
    t: Tensor,
    schedule: Schedule,
    generator: torch.Generator,
    known: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Squared error of the v-prediction.

    x0: [n, c, h, w] clean latents; t: [n] timesteps (equal for the frames of one clip); known: [n, c + 1, h, w]
    known-frame latents and mask, appended to the channels. The noise is independent for every frame (Emu Video,
    section 3.2). Returns the error [n, c, h, w], the prediction and the noisy input x_t.
    """
    noise = torch.randn(x0.shape, generator=generator)
    noisy = add_noise(x0, noise, t, schedule)
    inputs = noisy if known is None else torch.cat([noisy, known], 1)
    prediction = denoiser(inputs, t).float()
    return (prediction - v_target(x0, noise, t, schedule)).square(), prediction, noisy
