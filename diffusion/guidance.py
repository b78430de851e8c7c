"""Guidance with two weights, one for the image and one for the text."""

from __future__ import annotations

from torch import Tensor


def emu_guidance(uncond: Tensor, image: Tensor, full: Tensor, image_guidance: float, text_guidance: float) -> Tensor:
    """Return uncond + w_i (image - uncond) + w_p (full - image) (Emu Video, equation 1).

    `uncond` is predicted without both conditions, `image` with the image and a null text, `full` with both. It is
    computed as a weighted sum, so that weights (1, 1) give `full` and (0, 0) give `uncond` bit for bit.
    """
    return (1 - image_guidance) * uncond + (image_guidance - text_guidance) * image + text_guidance * full


def oscillating_guidance(step: int, high: float, low: float, constant_steps: int) -> float:
    """Return the guidance weight of a step, counted from 0 (Imagen Video, section 2.6).

    The weight is `high` in the first `constant_steps` steps, then alternates, beginning with `low`. The paper writes
    guidance as (1 + w) full - w uncond, so its weights 15 and 1 are 16 and 2 here.
    """
    is_low = step >= constant_steps and (step - constant_steps) % 2 == 0
    return low if is_low else high


def rescale_guidance(guided: Tensor, full: Tensor, phi: float, frames: int) -> Tensor:
    """Rescale the standard deviation of each video towards the conditional output's, by phi in [0, 1].

    Lin et al. 2023, section 3.4. Both are the network's output (v or eps), [videos * frames, C, h, w]. The
    standard deviation runs over all dimensions of a video, so that its frames keep their relative brightness.
    """
    if guided.shape[0] % frames:
        raise ValueError(f"{guided.shape[0]} frames cannot be divided into videos of {frames} frames.")
    videos = guided.shape[0] // frames
    spread = full.reshape(videos, -1).std(1) / guided.reshape(videos, -1).std(1)
    scale = phi * spread + (1 - phi)
    return guided * scale.repeat_interleave(frames).reshape(-1, *(1,) * (guided.ndim - 1))


def as_two(image_guidance: float, text_guidance: float) -> tuple[float, float]:
    """Rewrite equation 1 as guidance with a positive and a negative estimate, as CFG hooks expect.

    Returns (share, rest). With negative = share uncond + (1 - share) image, equation 1 is
    negative + text_guidance (full - negative) + rest (image - uncond). share lies in [0, 1]; rest is 0 for an
    image_guidance between 1 and text_guidance.
    """
    shared = min(max(image_guidance, min(1.0, text_guidance)), max(1.0, text_guidance))
    share = 0.0 if text_guidance == 1.0 else (1 - shared) / (1 - text_guidance)
    return share, image_guidance - shared
