"""Strength of temporal layers over steps, frames and pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..temporal_layers.kinds import strengths
from ..temporal_layers.modules.base import Strength
from .given_frames import masks
from .spans import VideoPart
from .values import check_finite
from .videos import PART, SAMPLED, SIZE, window_frames

STRENGTH = "emu_video_strength"  # attachment of a MODEL: its settings


@dataclass(frozen=True)
class Setting:
    """Settings of one strength node.

    attention, convolution: share of the change of a module group that is kept, 1 = as trained.
    key_scale: factor on the keys of temporal attention.
    start, end: range of sampling in which it applies, 0 = first step, 1 = last step.
    per_frame: factors of both shares, one for each frame of the video; empty = 1.
    mask: [frames or 1, h, w] or [h, w], factors of both shares at each pixel; None = 1.
    """

    attention: float = 1.0
    convolution: float = 1.0
    key_scale: float = 1.0
    start: float = 0.0
    end: float = 1.0
    per_frame: tuple[float, ...] = ()
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        numbers = {"attention": self.attention, "convolution": self.convolution, "key_scale": self.key_scale}
        check_finite(**numbers, start_percent=self.start, end_percent=self.end)
        check_finite(**{f"per_frame[{frame}]": value for frame, value in enumerate(self.per_frame)})
        if self.start > self.end:
            raise ValueError(f"start_percent {self.start:g} is greater than end_percent {self.end:g}: swap them.")

    def is_active(self, sampling: Any, sigma: float) -> bool:
        """Return whether the setting applies at a noise level of a MODEL's model_sampling."""
        return sampling.percent_to_sigma(self.end) <= sigma <= sampling.percent_to_sigma(self.start)

    def strengths(
        self, batch: int, frames: int, size: Sequence[int], options: Mapping[str, Any]
    ) -> dict[str, Strength]:
        """Return the strength of each kind of module, for one call of the model.

        batch: latents of one conditioning in the call. frames: of one clip in it. size: height and width of its
        latents, to which a mask is resized. options: transformer options.
        """
        if not self.per_frame and self.mask is None:
            if self.attention == self.convolution == 1.0:
                return {}
            return dict(strengths(attention=self.attention, convolution=self.convolution))
        window = options.get("context_window")
        indices = list(range(frames)) if window is None else window_frames(window)
        video = frames if window is None else options.get(SAMPLED, batch)
        part = options.get(PART)
        factors = self._factors_of_frames(video, part)[indices]
        if self.mask is not None:
            if options.get(SIZE, tuple(size)) != tuple(size):
                raise ValueError(
                    "The mask of Temporal Layer Strength is for the whole picture, but the model is called with a part "
                    "of it, by Conditioning (Set Area), the mask bounds of Conditioning (Set Mask), or tiled "
                    "diffusion: use Conditioning (Set Mask) with set_cond_area default, or remove the mask."
                )
            mask = self._mask_of(video, part, indices).float()[:, None]
            mask = F.interpolate(mask, size=tuple(size), mode="area")
            factors = factors.to(mask.device)[:, None, None, None] * mask
        return {
            kind: factors * value
            for kind, value in strengths(attention=self.attention, convolution=self.convolution).items()
        }

    def _factors_of_frames(self, frames: int, part: VideoPart | None) -> Tensor:
        """Return `per_frame` as [frames], or ones. part: the window of a longer video that the frames are from."""
        numbers = torch.tensor(self.per_frame or (1.0,) * frames)
        if part is not None:
            numbers = part.of_window(numbers, "numbers in per_frame")
        if len(numbers) != frames:
            raise ValueError(
                f"per_frame has {len(numbers)} numbers, but the video has {frames} frames: give one number for each "
                "frame."
            )
        return numbers

    def _mask_of(self, frames: int, part: VideoPart | None, indices: Sequence[int]) -> Tensor:
        """Return the masks of some frames of a video, [1 or len(indices), h, w]."""
        assert self.mask is not None
        mask = masks(self.mask)
        if part is not None:
            mask = part.of_window(mask, "masks")
        if len(mask) not in (1, frames):
            raise ValueError(
                f"There are {len(mask)} masks, but the video has {frames} frames: connect one mask, or one for "
                "each frame."
            )
        return mask if len(mask) == 1 else mask[list(indices)]


def active_setting(settings: Sequence[Setting], sampling: Any, options: Mapping[str, Any]) -> Setting:
    """Return the last setting that applies at the current noise level. Without one, return the strength as trained."""
    sigmas = options.get("sigmas")
    for setting in reversed(settings):
        if (setting.start, setting.end) == (0.0, 1.0) or (
            sigmas is not None and setting.is_active(sampling, float(sigmas.flatten()[0]))
        ):
            return setting
    return Setting()
