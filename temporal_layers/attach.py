"""Attach temporal layers to a UNet and detach them again.

Each anchor's instance attribute `forward` is swapped for one that calls the old `forward` and then the
temporal layer. No module, hook, parameter or buffer is added to the UNet, so its state dict, LoRA keys and
weight patches stay as they are, and torch.compile sees the change. Other packs may swap `forward` too, before or after,
and undo it in any order: a swap that is no longer the outermost one passes calls through.

Swaps and their wrappers are created once and reused, because torch.compile traces again for every new object.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from .layers import Call, TemporalLayers

ATTRIBUTE = "_emu_video_attachment"
SWAP = "_emu_video_swap"


def attach(unet: nn.Module, layers: TemporalLayers, owner: Any) -> None:
    """Attach `layers` to `unet` for `owner`. They replace layers that were attached before.

    Afterwards unet(x, t, ...) accepts x with C latent channels or with C + conditioning_channels. The first C go to the
    base's own first convolution, the others to the conditioning convolution. Frames are the batch, (b t) with t =
    layers.frames; with 1 frame the layers and the conditioning channels are skipped.

    Only `owner` can detach them. When `owner` is garbage-collected, they are detached automatically.
    Raises ValueError, with nothing attached, when an anchor is missing.
    """
    modules = dict(layers.backbone.modules(unet))
    attached = _attached(layers)
    for name in attached:
        if name not in modules:
            raise ValueError(f"The model has no module {name}; load temporal layers made for this base model.")
    _release(unet)
    swaps = []
    for name, wrapped in attached.items():
        swap = _swap(modules[name])
        swap.attached = wrapped
        swaps.append(swap)
    unet.__dict__[ATTRIBUTE] = _Attachment(owner, swaps)


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
    """Replacement of a module's `forward`. It calls the original while no layer is attached."""

    def __init__(self, module: nn.Module):
        self.module = module
        self.replaced: Callable[..., Any] | None = None
        self.original: Callable[..., Any] = module.forward
        self.attached: Callable[..., Any] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.attached is None:
            return self.original(*args, **kwargs)
        return self.attached(self.original, *args, **kwargs)

    def cover(self) -> None:
        """Replace the module's current `forward`."""
        self.replaced = self.module.__dict__.get("forward")
        if self.original != self.module.forward:
            self.original = self.module.forward
        self.module.__dict__["forward"] = self

    def release(self) -> None:
        self.attached = None
        if self.module.__dict__.get("forward") is not self:
            self.module.__dict__.pop(SWAP, None)  # below another pack's forward, so it cannot be removed
        elif self.replaced is None:
            del self.module.__dict__["forward"]
        else:
            self.module.__dict__["forward"] = self.replaced


def _attached(layers: TemporalLayers) -> dict[str, Callable[..., Any]]:
    """Return anchor name -> the function that replaces forward(*args); its first argument is `forward`."""
    attached: dict[str, Callable[..., Any]] = layers.__dict__.setdefault(ATTRIBUTE, {})
    if not attached:
        for name, module in layers.wrappers():
            wrapped = partial(_wrap, layers.call, name, module.wrap)
            attached[name] = partial(_nest, wrapped, attached[name]) if name in attached else wrapped
    return attached


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


def _swap(module: nn.Module) -> _Swap:
    """Return the module's swap, made outermost. A swap that an earlier detach left is reused."""
    forward = module.__dict__.get("forward")
    if isinstance(forward, _Swap):
        return forward
    swap = module.__dict__.setdefault(SWAP, _Swap(module))
    swap.cover()
    return swap


def _release(unet: nn.Module) -> None:
    attachment = unet.__dict__.pop(ATTRIBUTE, None)
    if attachment is not None:
        attachment.release()
