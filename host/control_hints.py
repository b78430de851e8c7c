"""Select the ControlNet hints of each window's frames, and the part of them that each tile shows.

ComfyUI cuts latents and texts for a context window, but leaves hints whole. A ControlNet then takes the first hints in
every window. The windows and tiles of a layout are latents of their own, for which ComfyUI cuts no hints either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor

from .spans import VideoPart
from .videos import window_frames


@contextmanager
def hints_follow_windows(
    conds: Mapping[str, Sequence[Mapping[str, Any]]], part: VideoPart | None = None
) -> Iterator[None]:
    """Let the ControlNets and T2I-Adapters of a guider's `conds` pick their hints by window, while this is open.

    part: part of the video that is sampled, None for the whole video.

    Raises:
        ValueError: for hints for another number of frames than the whole video has.
    """
    with ExitStack() as stack:
        for control in _controls(conds):
            is_own = type(control).__module__ == "comfy.controlnet"
            stack.enter_context(_new_clones(control))
            if part is not None:
                stack.enter_context(_cut(control, part, is_own))
            if is_own and len(control.cond_hint_original) > 1:
                stack.enter_context(_picking(control))
        yield


def _controls(conds: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Any]:
    """Return every control with hints once, also chained ones."""
    found: dict[int, Any] = {}
    for entry in (entry for entries in conds.values() for entry in entries):
        control = entry.get("control")
        while control is not None:
            if isinstance(getattr(control, "cond_hint_original", None), Tensor):
                found[id(control)] = control
            control = control.previous_controlnet
    return list(found.values())


@contextmanager
def _cut(control: Any, part: VideoPart, is_own: bool) -> Iterator[None]:
    """Cut the hints of a control to a part of the video.

    is_own: whether the class is ComfyUI's own. Other packs' classes may have hints for some frames only (SparseCtrl).
    """
    hints = control.cond_hint_original
    cut = hints
    if is_own or len(hints) == part.frames.total:
        cut = part.of_window(hints, "images for a ControlNet")
    cut = part.of_tile(cut, control.compression_ratio, control.upscale_algorithm, "center")
    control.cond_hint_original, control.cond_hint = cut, None
    try:
        yield
    finally:
        control.cond_hint_original, control.cond_hint = hints, None


@contextmanager
def _new_clones(control: Any) -> Iterator[None]:
    """Clear the copies of a control for other GPUs before and after. ComfyUI caches them with their first hints."""
    clones = getattr(control, "multigpu_clones", {})
    clones.clear()
    try:
        yield
    finally:
        clones.clear()


@contextmanager
def _picking(control: Any) -> Iterator[None]:
    """Pick the hints of each context window, also in the copies for other GPUs.

    Other packs' classes (Advanced-ControlNet) read the window themselves.
    """
    hints, before = control.cond_hint_original, dict(vars(control))
    instance_for = getattr(control, "get_instance_for_device", None)

    def for_device(device):
        assert instance_for is not None
        instance = instance_for(device)
        if "get_control" not in vars(instance):
            instance.get_control = _of_window(instance)
        return instance

    replaced = {"get_control": _of_window(control)} | ({"get_instance_for_device": for_device} if instance_for else {})
    vars(control).update(replaced)
    try:
        yield
    finally:
        for name in replaced:
            del vars(control)[name]
            if name in before:
                vars(control)[name] = before[name]
        control.cond_hint_original, control.cond_hint = hints, None


def _of_window(control: Any) -> Callable[..., Any]:
    """Return the control's get_control with the hints of the context window of each call."""
    get_control, hints = control.get_control, control.cond_hint_original

    def of_window(x_noisy, t, cond, batched_number, transformer_options):
        window = transformer_options.get("context_window")
        if window is not None:
            control.cond_hint_original = hints[[frame % len(hints) for frame in window_frames(window)]]
            control.cond_hint = None  # made of the hints of another window
        return get_control(x_noisy, t, cond, batched_number, transformer_options)

    return of_window
