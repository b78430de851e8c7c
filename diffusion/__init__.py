"""Diffusion in plain torch: schedule, known frames, guidance, sampler. Knows no network."""
