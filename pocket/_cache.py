from pathlib import Path

from .latents import latent_set

latent_set(Path("runs/pocket"), "clips", seed=13, count=6_000)
latent_set(Path("runs/pocket"), "check", seed=77, count=256)
