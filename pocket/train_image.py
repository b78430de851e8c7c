"""Stage 3: text to image. v-prediction with zero terminal SNR; afterwards these weights are frozen for good."""

import argparse
from pathlib import Path

import torch

from ..diffusion.schedule import Schedule
from ..training.loop import Settings, train
from ..training.objective import sample_timesteps, v_error
from .denoiser import Denoiser
from .latents import latent_set
from .text_encoder import pad_tokens

DROP_TEXT = 0.1


def main(folder: Path, iterations: int, batch: int, rate: float, seed: int, compile: bool) -> None:
    torch.manual_seed(seed)
    stills = latent_set(folder, "stills", seed=11, count=16_000, frames=1, moving=False)
    starts = latent_set(folder, "starts", seed=12, count=16_000, frames=1)
    model = Denoiser()
    model.text.load_state_dict(torch.load(folder / "text_average.pt", weights_only=True))
    run = torch.compile(model) if compile else model
    schedule = Schedule.from_betas(zero_terminal_snr=True)
    empty = torch.tensor(pad_tokens([]))

    def loss(step: int):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        parts = [data.batch(generator, batch // 2) for data in (stills, starts)]
        x0, weight, tokens = (torch.cat(part) for part in zip(*parts, strict=True))
        tokens = torch.where(torch.rand(len(tokens), 1, generator=generator) < DROP_TEXT, empty, tokens)
        t = sample_timesteps(len(x0), len(schedule), generator)
        context, pooled = model.encode(tokens)
        error, _, _ = v_error(lambda x, t: run(x, t, context, pooled), x0[:, 0], t, schedule, generator)
        error = (error.mean(1) * weight[:, 0]).mean((1, 2))
        high = t >= 900
        figures = {
            "error_high": error[high].mean().item() if high.any() else 0.0,
            "error_low": error[~high].mean().item(),
        }
        return error.mean(), figures

    averaged = train({"model": model}, loss, Settings(iterations, rate), folder, "image")
    torch.save(averaged["model"], folder / "image_average.pt")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/pocket"))
    parser.add_argument("--iterations", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="compile the UNet first (takes minutes, runs faster)")
    main(**vars(parser.parse_args()))
