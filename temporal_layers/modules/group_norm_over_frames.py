"""GroupNormOverFrames: statistics over whole videos for a group norm of the image model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from .base import Strength, TemporalModule, ToFrames, check_batch, is_off
from .frames import group_norm_over_frames


class GroupNormOverFrames(TemporalModule):
    """Group norm whose statistics run over all frames of a video, for the residual blocks of the image model.

    AnimateDiff v1, PIA and HotshotXL were trained with norms of (c, t, h, w) there.

    It needs no weights. At strength 0 the image model's norm runs unchanged, above 0 the norm is over frames.
    """

    def __init__(self, channels: int, operations: Any = nn):
        super().__init__()

    def wrap(
        self, forward: Callable[..., Any], x: Tensor, *, frames: int, strength: Strength, to_frames: ToFrames
    ) -> Tensor:
        """Call the norm's own `forward` on (b, c, t, h w) instead of (b t) c h w."""
        if frames == 1 or is_off(strength):
            return forward(x)
        check_batch(x, frames)
        return group_norm_over_frames(forward, x, frames)

    def zero_(self) -> None:
        pass
