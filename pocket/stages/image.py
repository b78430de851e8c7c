"""Stage 3: text to image. v-prediction with zero terminal SNR; afterwards these weights are frozen for good.

Temporal layers hear a word only if the frozen model carries it, and a word like "spinning" hardly changes a picture.
So a linear reading of the activations must name the caption's words; the reading itself is thrown away.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...diffusion.schedule import Schedule
from ...training.loop import Settings, train
from ...training.objective import sample_timesteps, v_error
from ..model.denoiser import Denoiser
from ..model.text_encoder import Vocabulary, pad_tokens
from .latents import latent_set, picture_sets

DROP_TEXT = 0.1
TURNING = np.array([2.0, 4.0, 7.0])
"""Later frames of spinning clips: a frozen model cannot draw what it never saw. They are seen without their captions,
so that the first frame of a spinning clip is still drawn upright."""


def main(folder: Path, iterations: int, batch: int, rate: float, seed: int) -> None:
    torch.manual_seed(seed)
    stills, starts = picture_sets(folder)
    turned = latent_set(folder, "turned", seed=14, count=4_000, frames=3, motions=("spinning",), times=TURNING)
    model = Denoiser()
    model.text.load_state_dict(torch.load(folder / "text_average.pt", weights_only=True))
    words = nn.Linear(model.unet.feature_channels, len(Vocabulary()))
    run = torch.compile(model.with_means)
    schedule = Schedule.from_betas(zero_terminal_snr=True)
    empty = torch.tensor(pad_tokens([]))

    def loss(step: int, _: range):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        latents, near, said = turned.batch(generator, batch // 6)
        frame = torch.randint(0, len(TURNING), (1,), generator=generator)
        parts = (
            stills.batch(generator, batch // 3),
            starts.batch(generator, batch // 2),
            (latents[:, frame], near[:, frame], empty.expand_as(said)),
        )
        x0, weight, tokens = (torch.cat(part) for part in zip(*parts, strict=True))
        dropped = torch.rand(len(tokens), 1, generator=generator) < DROP_TEXT
        tokens = torch.where(dropped, empty, tokens)
        t = sample_timesteps(len(x0), len(schedule), generator)
        context, pooled = model.encode(tokens)
        means = torch.empty(0)

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            nonlocal means
            v, means = run(x, t, context, pooled)
            return v

        error, _, _ = v_error(denoise, x0[:, 0], t, schedule, generator)
        said = torch.zeros(len(tokens), len(Vocabulary())).scatter_(1, tokens, 1.0)
        unheard = F.binary_cross_entropy_with_logits(words(means), said)
        error = (error.mean(1) * weight[:, 0]).mean((1, 2))
        high = t >= 900
        figures = {
            "error_high": error[high].mean().item() if high.any() else 0.0,
            "error_low": error[~high].mean().item(),
            "unheard": unheard.item(),
        }
        return error.mean() + unheard, figures

    result = train({"model": model, "words": words}, loss, Settings(iterations, rate), folder, "image")
    torch.save(result.average["model"], folder / "image_average.pt")
