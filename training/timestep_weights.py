"""Learned weights of timesteps in a loss (Kendall et al. 2018; Karras et al. 2024, EDM2, section 2.2).

Most of the error at high noise cannot be learned away. Its gradient hides that of low noise, where edges are decided
and the error is a tenth as large. Each error is divided by the usual one of its timestep, so all timesteps count
equally.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TimestepWeights(nn.Module):
    """Logarithm of the usual error at each timestep, linear between `knots`, trained together with the network."""

    def __init__(self, timesteps: int, knots: int = 21):
        super().__init__()
        self.spacing = timesteps / (knots - 1)
        self.logarithm = nn.Parameter(torch.zeros(knots))

    def forward(self, error: Tensor, t: Tensor) -> Tensor:
        """Return the weighted errors [n] of errors [n] at timesteps [n], whose gradient also trains the weights."""
        place = t / self.spacing
        knot = place.long()
        usual = torch.lerp(self.logarithm[knot], self.logarithm[knot + 1], place - knot)
        return error / usual.exp() + usual
