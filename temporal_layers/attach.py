"""Hang temporal layers on a UNet and take them off again.

Each anchor's instance attribute `forward` is swapped for one that calls the old `forward` and then the
temporal layer. No module, hook, parameter or buffer is added to the UNet, so its state dict, LoRA keys and
weight patches stay as they are, and torch.compile sees the change. Others may swap `forward` too, before or
after, and take theirs off in any order: a swap that is no longer on top passes through.

Swaps, and what hangs on them, are made once and used again: torch.compile traces anew for every new object.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .anchors import CONV_IN
from .layers import TemporalLayers

ATTRIBUTE = "_emu_video_attachment"
SWAP = "_emu_video_swap"


def attach(unet: nn.Module, layers: TemporalLayers, owner: Any) -> None:
    """Hang `layers` on `unet` for `owner`, in place of whatever was attached before.

    Afterwards unet(x, t, ...) takes x of C latent channels, or of C + conditioning_channels: the first C go
    to the base's own first convolution, the rest to the extra one. Frames are the batch, (b t) with
    t = layers.frames; with 1 frame the layers and the extra channels are skipped.

    Only `owner` can detach; when it is garbage-collected the layers come off by themselves.
    Raises ValueError, with nothing attached, when an anchor is missing.
    """
    targets = {name: _module(unet, name) for name, _ in layers.items()}
    _release(unet)
    swaps = []
    for name, module in layers.items():
        swap = _swap(targets[name])
        swap.hung = _hung(layers, name, module, targets[name])
        swaps.append(swap)
    unet.__dict__[ATTRIBUTE] = _Attachment(owner, swaps)


def detach(unet: nn.Module, owner: Any) -> None:
    """Take off what `owner` attached. Does nothing for anyone else, or when nothing is attached."""
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
    """Stands in for a module's `forward`; passes through when nothing hangs on it."""

    def __init__(self, module: nn.Module):
        self.module = module
        self.replaced: Callable[..., Any] | None = None
        self.original: Callable[..., Any] = module.forward
        self.hung: Callable[..., Any] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.hung is None:
            return self.original(*args, **kwargs)
        return self.hung(self.original, *args, **kwargs)

    def cover(self) -> None:
        """Take the place of the module's present `forward`."""
        self.replaced = self.module.__dict__.get("forward")
        if self.original != self.module.forward:
            self.original = self.module.forward
        self.module.__dict__["forward"] = self

    def release(self) -> None:
        self.hung = None
        if self.module.__dict__.get("forward") is not self:
            self.module.__dict__.pop(SWAP, None)  # buried under a foreign forward, where it stays
        elif self.replaced is None:
            del self.module.__dict__["forward"]
        else:
            self.module.__dict__["forward"] = self.replaced


def _hung(layers: TemporalLayers, name: str, module: nn.Module, target: Any) -> Callable[..., Any]:
    hung = layers.__dict__.setdefault(ATTRIBUTE, {})
    if name not in hung:
        if layers.extra is not None and name == CONV_IN:
            hung[name] = partial(_conv_in, layers, name, module, layers.extra, target.in_channels)
        elif hasattr(module, "around"):
            hung[name] = partial(_around, layers, name, module)
        else:
            hung[name] = partial(_behind, layers, name, module)
    return hung[name]


def _behind(
    layers: TemporalLayers, name: str, module: nn.Module, forward: Callable, *args: Any, **kwargs: Any
) -> Tensor:
    out = forward(*args, **kwargs)
    if layers.frames == 1:
        return out
    _check_batch(out, layers.frames)
    if out.ndim == 3:  # a transformer block: (b t) (h w) c
        changed = module(out.transpose(1, 2).unsqueeze(-1), layers.frames).squeeze(-1).transpose(1, 2)
    else:
        changed = module(out, layers.frames)
    strength = layers.strength_at(name)
    return changed if strength == 1.0 else torch.lerp(out, changed, strength)


def _around(layers: TemporalLayers, name: str, module: Any, forward: Callable, x: Tensor) -> Tensor:
    if layers.frames == 1 or layers.strength_at(name) == 0.0:
        return forward(x)
    _check_batch(x, layers.frames)
    return module.around(forward, x, layers.frames)


def _check_batch(x: Tensor, frames: int) -> None:
    if x.shape[0] % frames:
        raise ValueError(
            f"{x.shape[0]} frames in the batch are no whole number of clips of {frames} frames; "
            "make the batch a multiple of the clip length."
        )


def _conv_in(
    layers: TemporalLayers,
    name: str,
    module: nn.Module,
    extra: nn.Module,
    channels: int,
    forward: Callable,
    x: Tensor,
) -> Tensor:
    surplus = x.shape[1] - channels
    if surplus == 0:
        return _behind(layers, name, module, forward, x)
    if surplus != layers.conditioning_channels:
        raise ValueError(
            f"the UNet got {x.shape[1]} channels; give it {channels} (latent) or "
            f"{channels + layers.conditioning_channels} (latent, known frames, mask)."
        )
    if layers.frames == 1:
        return forward(x[:, :channels])

    def with_conditioning(x: Tensor) -> Tensor:
        return forward(x[:, :channels]) + extra(x[:, channels:])

    return _behind(layers, name, module, with_conditioning, x)


def _swap(module: nn.Module) -> _Swap:
    """The module's swap, on top: one left behind as a pass-through by an earlier detach, or its own."""
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


def _module(unet: nn.Module, name: str) -> Any:
    try:
        return unet.get_submodule(name)
    except AttributeError:
        raise ValueError(f"the UNet has no module {name}; load temporal layers made for this base model.") from None
