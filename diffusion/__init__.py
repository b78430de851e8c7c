"""Diffusion in plain torch: schedule, known frames, guidance, sampler. Knows neither ComfyUI nor any network."""
