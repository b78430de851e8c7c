"""The training loop: warm-up, accumulation, gradient clipping, EMA, checkpoints, log. Independent of the network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .checkpoint import check_same_run, load_checkpoint, remove_unfinished, save_checkpoint
from .distributed import ALONE, Processes, like, whole
from .log import Figure, Log, Sums, joined, memory
from .muon import Muon

States = dict[str, dict[str, Tensor]]
"""The state dict of each trained module."""
Loss = Callable[[int, range], tuple[Tensor, Mapping[str, Figure]]]
"""(step, positions in the batch) -> mean loss of these clips, and figures to log. A pure function."""


@dataclass(frozen=True)
class Settings:
    """Settings of the optimisation.

    batch: clips per step over all processes; at_once: clips computed at the same time (0: all).
    rate: learning rate after `warmup` steps; a cosine decays it to `final_rate` times that (1 keeps it constant).
    ema: decay of the moving average. clip: largest norm of the gradient (0: any).
    autocast: "" or "bfloat16". optimiser: "adamw", "adamw8bit" (needs torchao) or "muon". shard: split weights,
    gradients and moments over the processes (not with muon).
    """

    iterations: int
    rate: float = 1e-3
    warmup: int = 100
    final_rate: float = 0.02
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.998
    save_every: int = 200
    batch: int = 1
    at_once: int = 0
    betas: tuple[float, float] = (0.9, 0.99)
    autocast: str = ""
    optimiser: str = "adamw"
    log_every: int = 25
    tensorboard: bool = False
    shard: bool = False


@dataclass(frozen=True)
class Progress:
    """Progress after each step, for callbacks: steps done, total steps, loss and log."""

    done: int
    steps: int
    loss: float
    log: Log


@dataclass(frozen=True)
class Result:
    """Weights of a run. average: their EMA. raw: without averaging. stopped: whether it ended before its last step."""

    average: States
    raw: States
    step: int
    stopped: bool
    log: Log


class NotFinite(ValueError):
    """The loss or its gradient is NaN or infinite. The last checkpoint is from an earlier step."""

    def __init__(self, step: int, positions: range | None):
        self.step, self.positions = step, positions
        what = "gradient" if positions is None else "loss"
        super().__init__(f"The {what} of step {step + 1} is not a finite number.")


class Average:
    """Exponential moving average (EMA) of the trained parameters by name. Its decay is lower in the first steps."""

    def __init__(self, parameters: Mapping[str, Tensor], decay: float):
        self.decay = decay
        self.values = {name: p.detach().clone() for name, p in parameters.items()}

    def load(self, values: Mapping[str, Tensor]) -> None:
        for name, value in self.values.items():
            value.copy_(like(values[name], value))

    def update(self, parameters: Mapping[str, Tensor], step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        present = [parameters[name].detach() for name in self.values]
        get_ema_multi_avg_fn(decay)(list(self.values.values()), present, None)


class Trainee(nn.Module):
    """The trained modules and their loss as one module, so that PyTorch's wrappers can find the parameters."""

    def __init__(self, modules: Mapping[str, nn.Module], loss: Loss, autocast: str):
        super().__init__()
        self.trained = nn.ModuleDict(modules)
        self.loss = loss
        self.dtype = getattr(torch, autocast) if autocast else None

    def forward(self, step: int, positions: range) -> tuple[Tensor, Mapping[str, Figure]]:
        device = next(self.parameters()).device
        with torch.autocast(device.type, self.dtype, enabled=self.dtype is not None):
            return self.loss(step, positions)


def train(
    modules: Mapping[str, nn.Module],
    loss: Loss,
    settings: Settings,
    folder: Path,
    name: str,
    *,
    run: Mapping[str, Any] | None = None,
    processes: Processes = ALONE,
    on_step: Callable[[Progress], None] | None = None,
    before_save: Callable[[int, States, States], None] | None = None,
    on_save: Callable[[int, States, States], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    echo: bool = True,
) -> Result:
    """Minimise `loss` over the parameters of `modules` that require gradients, on the device where they are.

    A run that was cut off continues from its checkpoint `folder`/`name`.pt and ends with the same weights.

    Args:
        run: settings that identify the run; a checkpoint with other settings is refused.
        before_save: called with the step, the averaged and the raw weights before each checkpoint, in the first
            process. An error that it raises ends the run and keeps the last checkpoint.
        on_save: called with the same after each checkpoint, in the first process.
        should_stop: called after each step; if it returns True, the run saves a checkpoint and stops.
        echo: whether rows of the log are printed.

    Raises:
        NotFinite: the loss or its gradient is NaN or infinite. The last checkpoint is from an earlier step.
        ValueError: the checkpoint is of another run or damaged, or only some processes see it.
        DiskFull: there is no room for a file. The last checkpoint is kept.
    """
    path = folder / f"{name}.pt"
    make_optimiser = optimiser_class(settings)  # before its moments are loaded, which may have a type of its package
    state = load_checkpoint(path)
    step = state["step"] if state else 0
    if len(set(processes.gather(step))) > 1:
        raise ValueError(
            f"Only some processes find the checkpoint {path}: put the run folder on a disk that all machines share."
        )
    if state:
        check_same_run(path, state["run"], dict(run or {}))
        for module_name, module in modules.items():
            module.load_state_dict(state["modules"][module_name])
        if echo and processes.is_first:
            print(f"{name}: resuming at step {step}", flush=True)
    if processes.is_first:
        remove_unfinished(folder, name)
    trainee = processes.wrap(Trainee(modules, loss, settings.autocast), shard=settings.shard)
    named = {f"{m}.{k}": p for m, module in modules.items() for k, p in module.named_parameters() if p.requires_grad}
    options = {"lr": settings.rate, "betas": settings.betas, "weight_decay": settings.weight_decay}
    optimiser = make_optimiser(named.values(), **options)
    average = Average(named, settings.ema)
    log = Log(
        folder / f"{name}.csv",
        settings.iterations,
        settings.log_every,
        first=step,
        tensorboard=folder / "tensorboard" if settings.tensorboard and processes.is_first else None,
        gather=processes.gather,
        echo=echo,
        writes=processes.is_first,
    )
    if state:
        _load_moments(optimiser, state["optimiser"], list(named.values()))
        average.load(state["average"])
        log.sums = state["log"] if processes.is_first else {}
    del state  # as large as modules, average and moments together
    parts = processes.share(settings.batch, settings.at_once or settings.batch)

    def save() -> None:
        sums = joined(processes.gather(log.sums))
        raw, averaged = _states(modules), whole(average.values)
        moments = whole(optimiser.state_dict())
        if processes.is_first:
            if before_save:
                before_save(step, _with(raw, averaged), raw)
            changed = {"modules": raw, "optimiser": moments, "average": averaged, "log": sums}
            save_checkpoint(path, step=step, run=dict(run or {}), **changed)
            if on_save:
                on_save(step, _with(raw, averaged), raw)
        processes.wait()

    stopped = False
    saved = step if step < settings.iterations else None  # files of the last step may be missing, if the disk was full
    while step < settings.iterations and not stopped:
        started = time.perf_counter()
        for group in optimiser.param_groups:
            _set_rate(group, settings.rate * rate_at(step, settings))
        value, figures = _gradients(trainee, optimiser, step, parts, processes)
        norm = whole(nn.utils.clip_grad_norm_(named.values(), settings.clip or math.inf)).item()
        if not math.isfinite(norm):
            raise NotFinite(step, None)
        optimiser.step()
        average.update(named, step)
        seconds = time.perf_counter() - started
        log.add(step, **figures, loss=value, gradient=norm, clips_per_second=(settings.batch, seconds), memory=memory())
        step += 1
        if on_step and processes.is_first:
            on_step(Progress(step, settings.iterations, value, log))
        stopped = processes.sum(bool(should_stop and should_stop())) > 0
        if step % settings.save_every == 0 or step == settings.iterations or stopped:
            save()
            saved = step
    if saved != step:
        save()
    raw = _states(modules)
    return Result(_with(raw, whole(average.values)), raw, step, step < settings.iterations, log)


def _gradients(
    trainee: nn.Module, optimiser: torch.optim.Optimizer, step: int, parts: list[range], processes: Processes
) -> tuple[float, Sums]:
    """Compute the gradient of a whole batch, part by part. Returns the mean loss of all processes, and figures."""
    optimiser.zero_grad(set_to_none=True)
    clips = sum(len(part) for part in parts)
    mean, figures, bad = 0.0, [], None
    for part in parts:
        with processes.without_exchange(trainee) if part is not parts[-1] else nullcontext():
            value, logged = trainee(step, part)
            (value * (len(part) / clips)).backward()
        figures += [{name: f if isinstance(f, tuple) else (f, 1)} for name, f in logged.items()]
        if bad is None and not math.isfinite(value.item()):
            bad = part
        mean += value.item() * len(part) / clips
    mean = processes.sum(mean) / processes.count
    if not math.isfinite(mean):
        raise NotFinite(step, next((part for part in processes.gather(bad) if part is not None), None))
    return mean, joined(figures)


def _states(modules: Mapping[str, nn.Module]) -> States:
    return {m: {k: whole(v.detach()) for k, v in module.state_dict().items()} for m, module in modules.items()}


def _with(states: States, values: Mapping[str, Tensor]) -> States:
    """Return a copy of `states` with `values` ("module.key") replaced."""
    changed = {name: dict(state) for name, state in states.items()}
    for name, value in values.items():
        module_name, _, key = name.partition(".")
        changed[module_name][key] = value
    return changed


def _load_moments(optimiser: torch.optim.Optimizer, state: dict[str, Any], parameters: list[Tensor]) -> None:
    for number, moments in state["state"].items():
        target = parameters[number]
        for name, value in moments.items():
            moments[name] = like(value, target) if value.shape == target.shape else value
    optimiser.load_state_dict(state)


def optimiser_class(settings: Settings) -> Callable[..., torch.optim.Optimizer]:
    """Return the class of `settings.optimiser`. Raises ValueError if its package is not installed."""
    if settings.optimiser == "adamw":
        return torch.optim.AdamW
    if settings.optimiser == "muon":
        return Muon
    try:
        from torchao.optim import AdamW8bit
    except ImportError:
        raise ValueError(
            'The optimiser "adamw8bit" needs the package torchao, which is not installed: run pip install torchao, '
            'or set optimiser to "adamw", which takes about 6 bytes more memory for each trained parameter.'
        ) from None
    return AdamW8bit


def _set_rate(group: dict[str, Any], rate: float) -> None:
    if isinstance(group["lr"], Tensor):  # torchao's optimisers refuse another object
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def rate_at(step: int, settings: Settings) -> float:
    """Return the factor on the learning rate at `step`: a linear warm-up, then half a cosine to `final_rate`."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.iterations - settings.warmup)
    return settings.final_rate + (1 - settings.final_rate) * 0.5 * (1 + math.cos(math.pi * done))
