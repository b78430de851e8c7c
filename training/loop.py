"""The training loop: warm-up, gradient clipping, exponential moving average, resume, log."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .progress import Log, load_checkpoint, save_checkpoint


@dataclass(frozen=True)
class Settings:
    iterations: int
    rate: float = 1e-3
    warmup: int = 100
    final_rate: float = 0.02  # of `rate`, reached by a cosine
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.998
    save_every: int = 200


class Average:
    """Exponential moving average of the trained parameters, with the usual short memory at the start."""

    def __init__(self, parameters: Iterable[Tensor], decay: float):
        self.decay = decay
        self.values = [p.detach().clone() for p in parameters]

    def update(self, parameters: Iterable[Tensor], step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for value, parameter in zip(self.values, parameters, strict=True):
            value.lerp_(parameter.detach(), 1 - decay)


def train(
    modules: dict[str, nn.Module],
    loss: Callable[[int], tuple[Tensor, dict[str, float]]],
    settings: Settings,
    folder: Path,
    name: str,
) -> dict[str, dict[str, Tensor]]:
    """Minimises `loss(step)` over the parameters of `modules` that require gradients.

    `loss` returns the loss and figures to log; it must depend on `step` alone, so that a run that was cut off and
    resumed from `folder`/`name`.pt sees the same batches. Returns the averaged state dict of each module.
    """
    named = {f"{m}.{k}": p for m, module in modules.items() for k, p in module.named_parameters() if p.requires_grad}
    parameters = list(named.values())
    optimiser = torch.optim.AdamW(parameters, settings.rate, betas=(0.9, 0.99), weight_decay=settings.weight_decay)
    average = Average(parameters, settings.ema)
    path = folder / f"{name}.pt"
    first = 0
    if state := load_checkpoint(path):
        first = state["step"]
        for module_name, module in modules.items():
            module.load_state_dict(state["modules"][module_name])
        optimiser.load_state_dict(state["optimiser"])
        average.values = state["average"]
        print(f"{name}: resuming at step {first}", flush=True)
    log = Log(folder / f"{name}.csv", settings.iterations)

    def save(step: int) -> None:
        states = {m: module.state_dict() for m, module in modules.items()}
        save_checkpoint(path, step=step, modules=states, optimiser=optimiser.state_dict(), average=average.values)

    for step in range(first, settings.iterations):
        for group in optimiser.param_groups:
            group["lr"] = settings.rate * _rate(step, settings)
        value, figures = loss(step)
        optimiser.zero_grad()
        value.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
        optimiser.step()
        average.update(parameters, step)
        log.add(step, loss=value.item(), gradient=norm.item(), **figures)
        if (step + 1) % settings.save_every == 0 or step + 1 == settings.iterations:
            save(step + 1)
    averaged = {m: dict(module.state_dict()) for m, module in modules.items()}
    for key, value in zip(named, average.values, strict=True):
        module_name, _, name = key.partition(".")
        averaged[module_name][name] = value
    return averaged


def _rate(step: int, settings: Settings) -> float:
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.iterations - settings.warmup)
    return settings.final_rate + (1 - settings.final_rate) * 0.5 * (1 + math.cos(math.pi * done))
