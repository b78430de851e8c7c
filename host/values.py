"""Checks of numbers that a graph or an API prompt gives."""

from __future__ import annotations

import math


def check_finite(**values: float) -> None:
    """Raise ValueError for a value that is NaN or infinite, which ComfyUI's own limits let pass."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}: enter a finite number.")
