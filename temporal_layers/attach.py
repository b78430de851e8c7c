"""Attach temporal layers to a UNet and detach them again.

Each anchor's instance attribute `forward` is swapped for one that calls the old `forward` and then the
temporal layer. No module, hook, parameter or buffer is added to the UNet, so its state dict, LoRA keys and
weight patches stay as they are, and torch.compile sees the change. Other packs may swap `forward` too, before or after,
and undo it in any order: a swap that is no longer the outermost one passes calls through.

Swaps are created once and reused, because torch.compile traces again for every new object. The layers store them: a
module that stored its own swap would be a reference cycle, and a dropped checkpoint would stay in memory.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from .layers import Call, TemporalLayers

ATTRIBUTE = "_emu_video_attachment"
SWAPS = "_emu_video_swaps"
WRAPS = "_emu_video_wraps"


def attach(unet: nn.Module, layers: TemporalLayers, owner: Any) -> None:
    """Attach `layers` to `unet` for `owner`. They replace layers that were attached before.

    Afterwards unet(x, t, ...) accepts x with C latent channels or with C + conditioning_channels. The first C go to the
    base's own first convolution, the others to the conditioning convolution. Frames are the batch, (b t) with t =
    layers.frames; with 1 frame the layers and the conditioning channels are skipped.

    Only `owner` can detach them. When `owner` is garbage-collected, they are detached automatically.
    Raises ValueError, with nothing attached, when an anchor is missing.
    """
    modules = dict(layers.backbone.modules(unet))
    wraps = _wraps(layers)
    for name in wraps:
        if name not in modules:
            raise ValueError(f"The model has no module {name}; load temporal layers made for this base model.")
    _release(unet)
    swaps: dict[str, _Swap] = layers.__dict__.setdefault(SWAPS, {})
    for name, wrapped in wraps.items():
        module, swap = modules[name], swaps.get(name)
        uncovered = module.__dict__.get("forward")
        if isinstance(uncovered, _Swap):  # the other pack has removed its forward since
            uncovered.release()
        if swap is None or swap.module is not module or swap.is_covered:
            swap = swaps[name] = _Swap(module, wrapped)
        swap.attach()
    unet.__dict__[ATTRIBUTE] = _Attachment(owner, list(swaps.values()))


def detach(unet: nn.Module, owner: Any) -> None:
    """Detach the layers that `owner` attached. Does nothing for another owner, or when nothing is attached."""
    attachment = unet.__dict__.get(ATTRIBUTE)
    if attachment is not None and attachment.owner() is owner:
        _release(unet)


class _Attachment:
    def __init__(self, owner: Any, swaps: list[_Swap]):
        self.swaps = swaps
        self.owner = weakref.ref(owner, lambda _: self.release())

    def release(self) -> None:
        for swap in self.swaps:
            swap.release()
        self.swaps = []


class _Swap:
    """Replacement of a module's `forward`: `wrapped` around the original, or the original alone while detached."""

    def __init__(self, module: nn.Module, wrapped: Callable[..., Any]):
        self.module, self.wrapped = module, wrapped
        self.replaced: Callable[..., Any] | None = None
        self.original: Callable[..., Any] = module.forward
        self.is_attached = False
        self.is_covered = False  # another pack's forward calls this swap, so it cannot be removed or used again

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.is_attached:
            return self.wrapped(self.original, *args, **kwargs)
        return self.original(*args, **kwargs)

    def attach(self) -> None:
        """Replace the module's current `forward`."""
        self.replaced = self.module.__dict__.get("forward")
        if self.original != self.module.forward:
            self.original = self.module.forward
        self.module.__dict__["forward"] = self
        self.is_attached = True

    def release(self) -> None:
        self.is_attached = False
        if self.module.__dict__.get("forward") is not self:
            self.is_covered = True
            return
        self.is_covered = False
        if self.replaced is None:
            del self.module.__dict__["forward"]
        else:
            self.module.__dict__["forward"] = self.replaced


def _wraps(layers: TemporalLayers) -> dict[str, Callable[..., Any]]:
    """Return anchor name -> the function that replaces forward(*args); its first argument is `forward`."""
    wraps: dict[str, Callable[..., Any]] = layers.__dict__.setdefault(WRAPS, {})
    if not wraps:
        for name, module in layers.wrappers():
            wrapped = partial(_wrap, layers.call, name, module.wrap)
            wraps[name] = partial(_nest, wrapped, wraps[name]) if name in wraps else wrapped
    return wraps


def _wrap(call: Call, name: str, wrap: Callable, forward: Callable, *args: Any, **kwargs: Any) -> Any:
    return wrap(
        forward,
        *args,
        frames=call.frames,
        strength=call.strength_at(name),
        to_frames=call.to_frames,
        **kwargs,
    )


def _nest(outer: Callable, inner: Callable, forward: Callable, *args: Any, **kwargs: Any) -> Any:
    return outer(partial(inner, forward), *args, **kwargs)


def _release(unet: nn.Module) -> None:
    attachment = unet.__dict__.pop(ATTRIBUTE, None)
    if attachment is not None:
        attachment.release()
