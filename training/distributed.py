"""Training in several processes started by `torchrun`: DistributedDataParallel, and exchange of figures and weights.

Every process draws the same global batch from (seed, step) and computes its share of the clips. So the losses do not
depend on the number of processes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Processes:
    """Rank of this process and the number of processes."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and shows progress."""
        return self.rank == 0

    def share(self, batch: int, at_once: int) -> list[range]:
        """Return the positions in a batch of `batch` clips that this process computes, `at_once` at a time.

        Raises ValueError if the clips cannot be shared equally.
        """
        if batch % self.count:
            raise ValueError(
                f"A batch of {batch} clips cannot be shared equally among {self.count} processes: "
                f"set batch to a multiple of {self.count}."
            )
        mine = batch // self.count
        start = self.rank * mine
        return [range(i, min(i + at_once, start + mine)) for i in range(start, start + mine, at_once)]

    def wrap(self, trainee: nn.Module, *, shard: bool = False) -> nn.Module:
        """Return `trainee` with gradients that are averaged over all processes.

        shard: split weights, gradients and moments over the processes. Each module that has parameters is sharded
        separately, because the image model calls temporal modules one by one.
        """
        if self.count == 1:
            return trainee
        if not shard:
            return DistributedDataParallel(trainee, broadcast_buffers=False)
        for module in trainee.modules():
            if next(module.parameters(recurse=False), None) is not None:
                fully_shard(module)
        return trainee

    def without_exchange(self, trainee: nn.Module) -> AbstractContextManager[Any]:
        """Return a context in which gradients are accumulated but not exchanged, for all parts but the last."""
        return trainee.no_sync() if isinstance(trainee, DistributedDataParallel) else nullcontext()

    def sum(self, value: float) -> float:
        """Return the sum of `value` over all processes."""
        if self.count == 1:
            return value
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        total = torch.tensor(value, dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return total.item()

    def gather(self, value: Any) -> list[Any]:
        """Return `value` of every process, in the order of their ranks."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        if self.count > 1:
            dist.barrier()


ALONE = Processes()
TIMEOUT = timedelta(hours=24)  # for the first process to make videos (prior_prompts, samples) while the others wait


@contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun started, within a `with` block. Without torchrun there is one process."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield Processes(dist.get_rank(), count)
    finally:
        if device.type == "cpu":
            # Threads of gloo free tensors of the last exchange, which aborts the process if the interpreter has ended.
            time.sleep(1)
        dist.destroy_process_group()


def whole(value: Any) -> Any:
    """Return a tensor, or nested dicts and lists of tensors, with shards gathered. All processes must call it."""
    if isinstance(value, DTensor):
        return value.full_tensor()
    if isinstance(value, dict):
        return {key: whole(each) for key, each in value.items()}
    return [whole(each) for each in value] if isinstance(value, list) else value


def like(value: Tensor, target: Tensor) -> Tensor:
    """Return a whole tensor, sharded like `target`."""
    if not isinstance(target, DTensor):
        return value
    return distribute_tensor(value.to(target.device), target.device_mesh, target.placements)
