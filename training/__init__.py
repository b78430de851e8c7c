"""Training of temporal layers: clips, objective, loop. Takes a denoiser and parameters; knows no user interface."""
