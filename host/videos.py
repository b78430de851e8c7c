"""Facts about the videos in a batch: their frame count, and what a CONDITIONING was made for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

FRAMES = "emu_video_frames"  # attachment of a MODEL with temporal layers: frames of one video, 0 = the whole batch
PURPOSE = "emu_video_purpose"  # key of a conditioning's options, beside noise_concat


@dataclass(frozen=True)
class Purpose:
    """What a conditioning was made for. Every entry of a CONDITIONING of this pack's nodes has one under `PURPOSE`.

    A conditioning without one was not made by this pack, or was saved by an older version.

    role: role of the temporal layers, as in `LayersInfo.role`.
    part: what it knows: text and known frames, known frames only, or neither.
    frames: frames of the video.
    order: order of the conditioning channels, as in `LayersInfo.conditioning`.
    """

    role: str
    part: Literal["positive", "image_only", "negative"]
    frames: int
    order: str


def purposes(conditioning: list[dict]) -> list[Purpose]:
    """Return the purposes that the entries of a guider's `conds` carry; empty for other nodes' conditionings."""
    return [options[PURPOSE] for options in conditioning if PURPOSE in options]


def frames_per_video(batch: int, frames: int) -> int:
    """Frames of one video in a latent batch of `batch` frames; `frames` = 0 takes them all for one video."""
    if frames and batch % frames:
        raise ValueError(
            f"The latent batch holds {batch} frames, which is not a whole number of {frames}-frame videos; set frames "
            f"of Load Temporal Layers to 0 for one video of any length, or make the batch a multiple of {frames}."
        )
    return frames or batch


def check_known_frames(known: torch.Size, latent: torch.Size, frames: int) -> None:
    """frames: of one video; its known frames serve all videos of the batch, or there are known ones for each."""
    if known[0] not in (frames, latent[0]):
        raise ValueError(
            f"The conditioning is for videos of {known[0]} frames, but the latent has {latent[0]} in videos of "
            f"{frames}: connect the latent of the node that made the conditioning, or for several videos at once set "
            f"frames of Load Temporal Layers to {known[0]}."
        )
    if latent[2:] != known[2:]:
        raise ValueError(
            f"The known frames' latents are {known[-1]}x{known[-2]} but the video's are "
            f"{latent[-1]}x{latent[-2]}: connect the latent of the node that made the conditioning."
        )
