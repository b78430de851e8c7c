"""Check that a result fits into memory before it is computed."""

from __future__ import annotations

import comfy.model_management
import torch

GIB = 1024**3


def check_memory(needed: int, what: str, advice: str, device: torch.device) -> None:
    """Raise ValueError for a result of `needed` bytes that does not fit. The message ends in `advice`."""
    free = comfy.model_management.get_free_memory(device)
    if needed > free:
        raise ValueError(
            f"{what} take about {needed / GIB:.1f} GiB of memory, but {free / GIB:.1f} GiB are free: {advice}."
        )
