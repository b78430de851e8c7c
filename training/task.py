"""Training task: a network with temporal layers, its objective and its clips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .clips import Clip, Clips, Conds
from .objective import Objective, Sample, stacked
from .timestep_weights import TimestepWeights

Network = Callable[[Tensor, Tensor, "Tensor | None", "list[Conds]"], Tensor]
"""The frozen image model with the temporal layers attached, as one function of several clips.

(noisy latents [n, T, C, h, w], timesteps [n], known frames and mask [n, T, C + 1, h, w] or None, text of each clip) ->
the network's own output [n, T, C, h, w], in float32. All tensors are on the device of the layers, texts on the CPU.
"""


@dataclass(frozen=True)
class Task:
    """A network, an objective and clips.

    conditioned: whether the layers read known frames. device: of the layers. weights: learned weights of timesteps.
    """

    network: Network
    objective: Objective
    clips: Clips
    conditioned: bool
    device: torch.device
    weights: TimestepWeights | None = None

    def draw(self, clip: Clip, seed: int, t: int | None = None) -> Sample:
        """Draw the sample of a clip from `seed`, see `Objective.draw`."""
        return self.objective.draw(clip, torch.Generator().manual_seed(seed), conditioned=self.conditioned, t=t)

    def predict(self, samples: list[Sample], texts: list[Conds]) -> tuple[Tensor, Tensor]:
        """Run the network on some clips. Returns the loss, and errors [n, T, h, w]."""
        batch, outputs = self.outputs(samples, texts)
        errors = self.objective.error(outputs, batch)
        losses = errors.mean((1, 2, 3))
        if self.weights:
            losses = self.weights(losses, torch.as_tensor(batch.t))
        loss = losses.mean()
        if self.objective.drift_weight:
            loss = loss + self.objective.drift_weight * self.objective.drift(outputs, batch)
        return loss, errors

    def outputs(self, samples: list[Sample], texts: list[Conds]) -> tuple[Sample, Tensor]:
        """Run the network on some clips. Returns the batch on the device, and outputs [n, T, C, h, w]."""
        batch = stacked(samples).to(self.device)
        return batch, self.network(batch.noisy, torch.as_tensor(batch.t), batch.conditioning, texts)
