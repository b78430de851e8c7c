"""ControlNet hints of a video in context windows: each window gets the hints of its own frames.

ComfyUI cuts latents and texts for a window, but leaves hints whole. A ControlNet then takes the first hints in every
window.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from .videos import window_frames


@contextmanager
def hints_follow_windows(conds: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[None]:
    """Let the ControlNets and T2I-Adapters of a guider's `conds` pick their hints by window, while this is open."""
    with ExitStack() as stack:
        for control in _controls(conds):
            stack.enter_context(_picking(control))
        yield


def _controls(conds: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Any]:
    """Return every control of ComfyUI's own once, also chained ones, if it has hints for several frames.

    Other packs' subclasses (Advanced-ControlNet) read the window themselves.
    """
    found: dict[int, Any] = {}
    for entry in (entry for entries in conds.values() for entry in entries):
        control = entry.get("control")
        while control is not None:
            hints = getattr(control, "cond_hint_original", None)
            if hints is not None and len(hints) > 1 and type(control).__module__ == "comfy.controlnet":
                found[id(control)] = control
            control = control.previous_controlnet
    return list(found.values())


@contextmanager
def _picking(control: Any) -> Iterator[None]:
    get_control, hints, replaced = control.get_control, control.cond_hint_original, vars(control).get("get_control")

    def of_window(x_noisy, t, cond, batched_number, transformer_options):
        window = transformer_options.get("context_window")
        if window is not None:
            control.cond_hint_original = hints[[frame % len(hints) for frame in window_frames(window)]]
            control.cond_hint = None  # made of the hints of another window
        return get_control(x_noisy, t, cond, batched_number, transformer_options)

    control.get_control = of_window
    try:
        yield
    finally:
        del control.get_control
        if replaced is not None:
            control.get_control = replaced
        control.cond_hint_original, control.cond_hint = hints, None
