"""TemporalModule: attachment of a module to an anchor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

ToFrames = Callable[[Any], tuple[Tensor, Callable[[Tensor], Any]]]
"""Anchor's output -> its frames, [(b t), c, h, w] or [(b t), c], and a function that puts changed frames back."""

Strength = float | Tensor
"""Share of a module's change that is kept: one number, or a tensor for the frames of a video, [t] or [t, 1, h, w]."""

Count = Annotated[int, Field(ge=0, le=2**16)]
"""A count among the options of a module. Values in files are checked against it."""


class TemporalModule(nn.Module):
    """A module whose `forward(x, frames)` maps the frames that an anchor returns to frames of the same shape.

    `operations` and `channels` are arguments of every constructor; further ones are options that a file may state,
    checked against their annotations (`kinds.Kind.options`).
    """

    def wrap(
        self,
        forward: Callable[..., Any],
        *args: Any,
        frames: int,
        strength: Strength,
        to_frames: ToFrames,
        **kwargs: Any,
    ) -> Any:
        """Call the anchor's `forward`, then apply this module to its output.

        frames: frames of one video; with 1 the module is skipped. strength: share of the change that is kept, 1 = all.
        Raises ValueError for a batch that is not a multiple of `frames`.
        """
        out = forward(*args, **kwargs)
        if frames == 1 or is_off(strength):
            return out
        x, put_back = to_frames(out)
        check_batch(x, frames)
        changed = self(x, frames)
        return put_back(blend(x, changed, strength))

    def zero_(self) -> None:
        """Set those weights to zero that make this module the identity."""
        raise NotImplementedError


def is_off(strength: Strength) -> bool:
    """Return whether the strength is 0, so that the module can be skipped."""
    return not isinstance(strength, Tensor) and strength == 0.0


def blend(x: Tensor, changed: Tensor, strength: Strength) -> Tensor:
    """Return `x` with a share of its change.

    x, changed: (b t) c h w or (b t) c, where t is the length of a `strength` that is a tensor.
    """
    if not isinstance(strength, Tensor):
        return changed if strength == 1.0 else torch.lerp(x, changed, strength)
    weight = strength.to(x.device, x.dtype)
    if weight.ndim == 1:
        weight = weight.reshape(-1, *(1,) * (x.ndim - 1))
    elif x.ndim == 4:
        weight = resized(weight, x.shape[2], x.shape[3])
    else:
        weight = weight.mean((1, 2, 3))[:, None]
    return torch.lerp(x, changed, weight.repeat(len(x) // len(weight), *(1,) * (x.ndim - 1)))


def resized(weight: Tensor, height: int, width: int) -> Tensor:
    """Return a mask [t, 1, h, w], of the size of the latents, at another size.

    A width of 1 means tokens: all pixels of a level in one column. Each level of a UNet halves the sides, rounded up.
    """
    if width > 1 or height == 1:
        return F.interpolate(weight, size=(height, width), mode="area")
    rows, columns = weight.shape[2:]
    while rows * columns > height:
        rows, columns = -(-rows // 2), -(-columns // 2)
    if rows * columns != height:
        raise ValueError(f"A mask of {list(weight.shape[2:])} latents cannot be laid over {height} tokens: remove it.")
    return F.interpolate(weight, size=(rows, columns), mode="area").reshape(len(weight), 1, -1, 1)


def check_batch(x: Tensor, frames: int) -> None:
    """Raise ValueError unless the batch of `x` holds whole videos of `frames` frames."""
    if x.shape[0] % frames:
        raise ValueError(
            f"The batch has {x.shape[0]} frames, which is not a multiple of the {frames} frames of one video; "
            "make the batch a multiple of the video length."
        )


def zero_(*layers: nn.Module) -> None:
    """Zero all weights of `layers`."""
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
