"""PIA's affinities: the similarity of each frame to the given image, 0..1 (Zhang et al. 2023, section 3.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# The published affinities by distance from the image's frame. Videos longer than a list repeat its last number.
RAMPS: dict[str, tuple[float, ...]] = {
    "small motion": (1.0, 0.9, 0.85, 0.85, 0.85, 0.8),
    "medium motion": (1.0, 0.8, 0.8, 0.8, 0.79, 0.78, 0.75),
    "large motion": (1.0, 0.8, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.6, 0.5, 0.5),
    "style transfer, small motion": (0.5, 0.4, 0.4, 0.4, 0.35, 0.3),
    "style transfer, medium motion": (0.5, 0.4, 0.4, 0.4, 0.35, 0.35, 0.3, 0.25, 0.2),
    "style transfer, large motion": (0.5, 0.2),
}
# The published affinities of loops of 16 frames.
LOOPS: dict[str, tuple[float, ...]] = {
    "loop, small motion": (1.0, 0.9, 0.85, 0.85, 0.85, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.85, 0.85, 0.9, 1.0),
    "loop, medium motion": (1.0, 0.8, 0.8, 0.8, 0.79, 0.78, 0.75, 0.75, 0.75, 0.75, 0.75, 0.78, 0.79, 0.8, 0.8, 1.0),
    "loop, large motion": (1.0, 0.8, 0.7, 0.7, 0.7, 0.7, 0.6, 0.5, 0.5, 0.6, 0.7, 0.7, 0.7, 0.7, 0.8, 1.0),
}
PRESETS = ("small motion", "medium motion", "large motion", *LOOPS, *[name for name in RAMPS if "style" in name])


def affinities(preset: str, frames: int) -> Tensor:
    """Return the affinities [frames] of a preset, for an image at the first frame.

    Loops return to the image in the last frame at any length. At 16 frames they are the published lists. Shorter loops
    skip the middle of the list, longer ones repeat its middle value.

    Raises:
        ValueError: for an unknown preset.
    """
    if preset in RAMPS:
        ramp = RAMPS[preset]
        return torch.tensor([ramp[min(frame, len(ramp) - 1)] for frame in range(frames)])
    if preset not in LOOPS:
        raise ValueError(f'There is no motion preset "{preset}": use one of {", ".join(PRESETS)}.')
    loop = LOOPS[preset]
    half = len(loop) // 2
    from_start = [loop[min(frame, half - 1)] for frame in range(frames)]
    from_end = [loop[-1 - min(frame, half - 1)] for frame in range(frames)]
    return torch.tensor(from_start[: (frames + 1) // 2] + from_end[: frames // 2][::-1])


def check_affinities(affinity: Tensor, frames: int) -> Tensor:
    """Return a user's affinities as [frames] or [frames, H, W].

    affinity: values in 0..1, per frame [n] or per frame and pixel [n, H, W]. With n = 1 it applies to all frames.

    Raises:
        ValueError: for another number of values, or values outside of 0..1.
    """
    if affinity.ndim not in (1, 3) or len(affinity) not in (1, frames):
        raise ValueError(
            f"There are {len(affinity)} affinities for {frames} frames: give one for all frames, or one for each frame."
        )
    wrong = affinity[~((affinity >= 0) & (affinity <= 1))]  # written so that NaN is refused, too
    if len(wrong):
        raise ValueError(f"An affinity is {wrong[0].item():g}: use values from 0 (free) to 1 (same as the image).")
    return affinity.expand(frames, *affinity.shape[1:])


def concat_affinity(latent: Tensor, affinity: Tensor) -> Tensor:
    """Concatenate the affinity and the image's latent, repeated on every frame.

    latent: [1, C, h, w], in the scale that the network sees. affinity: [T], or [T, H, W] of any size.

    Returns:
        The conditioning [T, 1 + C, h, w].
    """
    if latent.ndim != 4 or latent.shape[0] != 1:
        raise ValueError(f"Expected the latent of one image, [1, C, h, w], got {list(latent.shape)}.")
    size = latent.shape[2:]
    if affinity.ndim == 1:
        mask = affinity.to(latent)[:, None, None, None].expand(-1, 1, *size)
    else:
        mask = F.interpolate(affinity.to(latent)[:, None], size=size, mode="area")
    return torch.cat((mask, latent.expand(len(affinity), -1, -1, -1)), dim=1)
