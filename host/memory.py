"""Check that a result fits into memory before it is computed."""

from __future__ import annotations

from typing import cast

import comfy.model_management
import torch

MIB, GIB = 1024**2, 1024**3


def bytes_in_words(count: int) -> str:
    """Return a number of bytes in words, in MiB below 1 GiB."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{max(1, round(count / MIB))} MiB"


def check_memory(needed: int, what: str, advice: str, device: torch.device) -> None:
    """Raise ValueError for a result of `needed` bytes that does not fit. The message ends in `advice`."""
    free = cast(int, comfy.model_management.get_free_memory(device))  # a pair only if torch's own share is asked for
    if needed > free:
        raise ValueError(
            f"{what} need about {bytes_in_words(needed)} of memory, but only {bytes_in_words(free)} are free: {advice}."
        )
