"""Training of temporal layers: clips, objective, loop. Independent of any user interface."""
