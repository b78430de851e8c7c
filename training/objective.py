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


def first_frames(x0: Tensor, dropped: Tensor) -> Tensor:
    """What is known of each clip: its first frame's latent, and the mask.

    x0: [clips, frames, c, h, w]; dropped: bool [clips], clips of which nothing is known. Returns
    [clips, frames, c + 1, h, w], zero but for the known frames (Emu Video, section 3.2).
    """
    channels = x0.shape[2]
    known = x0.new_zeros(*x0.shape[:2], channels + 1, *x0.shape[3:])
    kept = ~dropped
    known[kept, 0, :channels] = x0[kept, 0]
    known[kept, 0, channels] = 1.0
    return known


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
