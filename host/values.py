"""Checks of numbers from a graph or an API prompt."""

from __future__ import annotations

import math


def check_finite(**values: float) -> None:
    """Raise ValueError for NaN or infinity, which ComfyUI's own limits accept."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}: enter a finite number.")
