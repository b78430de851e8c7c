"""Training task: a network with temporal layers, its objective and its clips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .clips import Clip, Clips, Conds
from .objective import Objective, Sample
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

    def predict(self, samples: list[Sample], texts: list[Conds]) -> tuple[list[Sample], Tensor, list[Tensor]]:
        """Run the network on some clips. Returns samples on the device, the loss, and errors [T, h, w]."""
        samples, outputs = self.outputs(samples, texts)
        errors = [self.objective.error(out, sample) for out, sample in zip(outputs, samples, strict=True)]
        losses = torch.stack([error.mean() for error in errors])
        if self.weights:
            losses = self.weights(losses, torch.tensor([sample.t for sample in samples], device=self.device))
        loss = losses.mean()
        if self.objective.drift_weight:
            drifts = [self.objective.drift(out, sample) for out, sample in zip(outputs, samples, strict=True)]
            loss = loss + self.objective.drift_weight * torch.stack(drifts).mean()
        return samples, loss, errors

    def outputs(self, samples: list[Sample], texts: list[Conds]) -> tuple[list[Sample], Tensor]:
        """Run the network on some clips. Returns samples on the device, and outputs [n, T, C, h, w]."""
        samples = [sample.to(self.device) for sample in samples]
        noisy = torch.stack([sample.noisy for sample in samples])
        t = torch.tensor([sample.t for sample in samples], device=self.device)
        given = [sample.conditioning for sample in samples if sample.conditioning is not None]
        return samples, self.network(noisy, t, torch.stack(given) if given else None, texts)
