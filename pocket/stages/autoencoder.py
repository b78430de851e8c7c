"""Stage 1: the autoencoder, on crops around the shapes, since all detail is at their edges.

Three latent channels are held close to the small picture's own colours, the fourth is free. Left to itself the
autoencoder invents a code in which grey lies beside red, and a diffusion model's small errors change colours.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...training.checkpoint import save_checkpoint
from ...training.log import Log
from ..model.autoencoder import Autoencoder
from ..world import TIMES, render_clips, sample_clips

CROP = 64
COLOUR_SCALE = 1.5  # makes the latents' standard deviation about 1


def crops(seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Pictures [count, 3, 64, 64] in 0..1 and their loss weights [count, 1, 64, 64]: crops that show a shape."""
    clips = sample_clips(seed, count, times=TIMES[[0, -1]])
    pictures, covered = render_clips(clips)
    generator = torch.Generator().manual_seed(seed)
    which = torch.randint(0, 2, (count,), generator=generator)
    jitter = torch.rand(count, 2, generator=generator) * 0.5 - 0.25
    size = pictures.shape[-1]
    out, weight = [], []
    for i, clip in enumerate(clips):
        frame = int(which[i])
        body = clip.bodies[i % len(clip.bodies)]
        left = int(min(max((body.x[frame] + jitter[i, 0]) * size - CROP / 2, 0), size - CROP))
        top = int(min(max((body.y[frame] + jitter[i, 1]) * size - CROP / 2, 0), size - CROP))
        window = (slice(top, top + CROP), slice(left, left + CROP))
        out.append(pictures[i, frame][(slice(None), *window)])
        weight.append(covered[i, frame][window])
    near = F.max_pool2d(torch.stack(weight)[:, None], 9, 1, 4)
    far = -F.max_pool2d(-torch.stack(weight)[:, None], 9, 1, 4)
    return torch.stack(out).float() / 255, 1 + 2 * near + 4 * (near - far)


def main(folder: Path, iterations: int, batch: int, rate: float, seed: int) -> None:
    torch.manual_seed(seed)
    model = Autoencoder().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimiser = torch.optim.AdamW(model.parameters(), rate, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, iterations, pct_start=0.05)
    log = Log(folder / "autoencoder.csv", iterations)
    for step in range(iterations):
        pictures, weight = crops(seed * 1_000_003 + step, batch)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            latents = model.encode(pictures)
            noisy = latents.float() + 0.12 * torch.randn(latents.shape)
            decoded = model.decode(noisy)
        error = decoded.float() - pictures
        loss = (weight * (error.abs() + 4 * error * error)).mean()
        colours, detail = latents.float().split((3, 1), 1)
        plain = COLOUR_SCALE * (F.avg_pool2d(pictures, 8) * 2 - 1)
        loss = loss + (colours - plain).square().mean() + 0.02 * (detail.mean().square() + detail.std().log().square())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        psnr = -10 * error.square().mean().log10()
        log.add(step, loss=loss.item(), psnr=psnr.item(), detail_std=detail.std().item())
    save_checkpoint(folder / "autoencoder.pt", model=model.state_dict())
