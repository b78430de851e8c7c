"""Diffusion in plain torch: schedule, known frames, guidance, sampler. Independent of the network."""
