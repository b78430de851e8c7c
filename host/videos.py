"""Frame counts of the videos in a batch, and the purpose of a CONDITIONING."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ..temporal_layers.info import LayersInfo
from .given_frames import masks
from .notices import notice
from .spans import VideoPart

LAYERS = "emu_video"  # attachment of a MODEL with temporal layers: their LayersInfo
FRAMES = "emu_video_frames"  # attachment of a MODEL with temporal layers: frames of one video, 0 = the whole batch
SAMPLED = "emu_video_sampled"  # transformer option while sampling: frames of the whole latent
SIZE = "emu_video_size"  # transformer option while sampling: height and width of the whole latent
PART = "emu_video_part"  # transformer option while sampling: the VideoPart that is sampled, or None
WINDOW = "ad_params"  # transformer option that AnimateDiff-Evolved made common, see `with_window`
PURPOSE = "emu_video_purpose"  # key of a conditioning's options, beside noise_concat


@dataclass(frozen=True)
class Purpose:
    """Purpose of a conditioning. Every entry of a CONDITIONING from this pack's nodes has one under `PURPOSE`.

    A conditioning without one was not made by this pack, or was saved by an older version.

    role: role of the temporal layers, as in `LayersInfo.role`.
    part: its contents: text and known frames, known frames only, or neither.
    frames: frames of the video, or of its window.
    order: order of the conditioning channels, as in `LayersInfo.conditioning`.
    video_part: window and tile that are sampled, None for the whole video. Masks and hints are cut to it.
    """

    role: str
    part: Literal["positive", "image_only", "negative"]
    frames: int
    order: str
    video_part: VideoPart | None = None


def purposes(conditioning: Sequence[Mapping[str, Any]]) -> list[Purpose]:
    """Return the purposes that the entries of a guider's `conds` carry; empty for other nodes' conditionings."""
    return [options[PURPOSE] for options in conditioning if PURPOSE in options]


def known_channels(entries: Sequence[Mapping[str, Any]]) -> list[torch.Tensor]:
    """Return the known frames and masks of entries that have some; None is none, as for ComfyUI."""
    return [entry["noise_concat"] for entry in entries if entry.get("noise_concat") is not None]


def sampled_part(conds: Mapping[str, Sequence[Mapping[str, Any]]]) -> VideoPart | None:
    """Return the part of the video that a guider's `conds` were made for, None for the whole video."""
    parts = [purpose.video_part for entries in conds.values() for purpose in purposes(entries)]
    return next((part for part in parts if part is not None), None)


def cut_masks(conds: Mapping[str, Sequence[dict[str, Any]]], part: VideoPart) -> None:
    """Replace the masks of a guider's `conds`, in place, by their part for the window and tile that is sampled."""
    for entry in (entry for entries in conds.values() for entry in entries):
        if entry.get("mask") is not None:
            entry["mask"] = cut_mask(entry["mask"], part)


def cut_mask(mask: torch.Tensor, part: VideoPart) -> torch.Tensor:
    """Return the part of masks of the whole video for a window and tile, [n, h, w]."""
    of_frames = part.of_window(masks(mask), "masks")
    return part.of_tile(of_frames[:, None], 1, "bilinear", "none")[:, 0]


def check_parts(conditionings: Mapping[str, list], info: LayersInfo) -> None:
    """Refuse conditionings at the wrong input of a guider, and conditionings without the known frames that the layers
    read.

    conditionings: a CONDITIONING for each input of the guider: positive, image_only, negative.
    """
    for slot, conditioning in conditionings.items():
        options = [entry[1] for entry in conditioning]
        for purpose in purposes(options):
            if purpose.part != slot:
                raise ValueError(
                    f"The input {slot} is connected to an output {purpose.part} of a conditioning node: connect the "
                    f"output {slot} of the same node. PIA's conditionings have no image_only and belong to KSampler."
                )
        reads_known = info.conditioning_channels and slot != "negative"
        if reads_known and not known_channels(options):
            raise ValueError(
                f"The conditioning {slot} has no known frames: connect the outputs of First Frame Conditioning or "
                "another conditioning node of Emu Video, not CLIP Text Encode."
            )


def check_conditionings(
    conds: Mapping[str, Sequence[Mapping[str, Any]]], info: LayersInfo, latent: torch.Size, frames: int
) -> None:
    """Refuse conditionings that were made for other temporal layers or for another latent.

    conds: of a guider. latent: shape of the latent to sample. frames: of one video.
    """
    any_known = False
    for name, entries in conds.items():
        for entry in entries:
            check_text_frames(name, entry.get("cross_attn"), latent[0], frames)
        known = known_channels(entries)
        any_known = any_known or bool(known)
        if known and len(known) < len(entries):
            raise ValueError(
                f"The conditioning {name} combines entries with and without known frames: combine the texts before "
                f"First Frame Conditioning, not after it."
            )
        for purpose in purposes(entries):
            check_purpose(purpose, info)
        for channels in known:
            if channels.ndim != 4:
                raise ValueError(
                    f"The conditioning {name} has known frames of shape {list(channels.shape)}, not [frames, channels, "
                    "height, width]: connect a conditioning node of Emu Video."
                )
            check_channels(channels.shape[1], info)
            check_known_frames(channels.shape, latent, frames)
        for purpose in purposes(entries):
            if purpose.frames != frames:
                raise ValueError(
                    f"The conditioning {name} was made for a video of {purpose.frames} frames, but frames of Load "
                    f"Temporal Layers is {frames}: set it to 0, or to {purpose.frames}."
                )
    if info.conditioning_channels and not any_known:
        notice(
            f"No conditioning has known frames, so the video does not start from an image, although these temporal "
            f"layers ({info.family}) were trained with one. Connect First Frame Conditioning."
        )


def check_text_frames(name: str, text: torch.Tensor | None, batch: int, frames: int) -> None:
    """Refuse texts [n, tokens, width] for another number of frames, which ComfyUI would silently repeat or cut.

    frames: of one video. batch: frames of the whole latent.
    """
    if text is not None and len(text) not in (1, frames, batch):
        raise ValueError(
            f"The conditioning {name} has prompts for {len(text)} frames, but the video has {frames}: set frames of "
            f"Prompt Schedule to {frames}."
        )


def check_purpose(purpose: Purpose, info: LayersInfo) -> None:
    """Refuse a conditioning that was made for temporal layers of another role or channel order."""
    if purpose.role != info.role:
        raise ValueError(
            f"The conditionings were made for temporal layers of the role {purpose.role}, but the MODEL has ones of "
            f"the role {info.role}: connect the MODEL that is connected to the conditioning node."
        )
    if purpose.order != info.conditioning:
        raise ValueError(
            f"The conditionings have the channel order {purpose.order}, but these temporal layers ({info.family}) "
            f"read {info.conditioning}: connect the MODEL that is connected to the conditioning node."
        )


def check_channels(channels: int, info: LayersInfo) -> None:
    """Refuse a conditioning with another number of channels than the temporal layers read."""
    if not info.conditioning_channels:
        raise ValueError(
            f"The conditionings carry known frames, but these temporal layers ({info.family}) read none: connect CLIP "
            "Text Encode directly, or load layers that know the first frame."
        )
    if channels != info.conditioning_channels:
        raise ValueError(
            f"The conditionings have {channels} channels of known frames and mask, but these temporal layers "
            f"({info.family}) read {info.conditioning_channels}: make them with the same MODEL and VAE."
        )


def check_frame_count(batch: int, frames: int) -> None:
    """Refuse a latent of one frame, because temporal layers have no effect on it.

    frames: of one video.
    """
    if batch == 1:
        raise ValueError(
            "There is one latent, but temporal layers need a video of at least 2 frames: set batch_size of Empty "
            "Latent Image to the frame count, for example 16. For a single image connect the MODEL of the checkpoint."
        )
    if frames == 1:
        raise ValueError("The frames of Load Temporal Layers are 1: set them to 0, or to the frames of one video.")


def frames_in_call(batch: int, frames: int, transformer_options: Mapping[str, Any]) -> int:
    """Return the frames of one clip in one call of the model, which may hold a window of the video or tiles of it.

    batch: latents of one conditioning in the call. frames: of one video, 0 = the whole latent. Raises ValueError for a
    call without a whole clip.
    """
    if frames:
        return frames_per_video(batch, frames)
    clip, window = transformer_options.get(SAMPLED, batch), transformer_options.get("context_window")
    if window is not None:
        clip = len(window_frames(window))
    if batch % clip == 0:
        return clip
    if batch == 1 or batch > clip:
        raise ValueError(
            f"A node calls the model with {batch} of the {clip} frames of a clip: remove nodes that split or tile the "
            "batch of latents, or set them to multiples of the frame count."
        )
    return batch


def window_frames(window: Any) -> list[int]:
    """Return the frames of the video that a context window holds, in its order."""
    anchor = getattr(window, "causal_anchor_index", None)
    return [*([] if anchor is None else [anchor]), *window.index_list]


def with_window(transformer_options: dict[str, Any]) -> dict[str, Any]:
    """Return transformer options that also list the frames of a window as AnimateDiff-Evolved does.

    Packs of image prompts (IP-Adapter) with one image per frame read this entry. Without it, every window gets the
    images of the first frames. The window is one of Context Windows, one of a conditioning node, or both.
    """
    window, part = transformer_options.get("context_window"), transformer_options.get(PART)
    if (window is None and part is None) or WINDOW in transformer_options:
        return transformer_options
    total = transformer_options[SAMPLED]
    frames = list(range(total)) if window is None else window_frames(window)
    if part is not None:
        frames, total = [part.frames.start + frame for frame in frames], part.frames.total
    return {**transformer_options, WINDOW: {"sub_idxs": frames, "context_length": len(frames), "full_length": total}}


def frames_per_video(batch: int, frames: int) -> int:
    """Return the frames of one video in a latent batch of `batch` frames; 0 = the batch is one video."""
    if frames and batch % frames:
        raise ValueError(
            f"The latent batch has {batch} frames, which is not a multiple of the {frames} frames of one video: set "
            f"frames of Load Temporal Layers to 0 for one video of any length, or make the batch a multiple of "
            f"{frames}."
        )
    return frames or batch


def check_known_frames(known: torch.Size, latent: torch.Size, frames: int) -> None:
    """Refuse known frames that do not fit the latent.

    frames: of one video. The known frames apply to all videos of the batch, or each video has its own.
    """
    if known[0] not in (frames, latent[0]):
        raise ValueError(
            f"The conditioning has {known[0]} frames, but a video of the latent has {frames}: connect the latent "
            f"output of the same conditioning node. For several videos in one latent, set frames of Load Temporal "
            f"Layers to {known[0]}."
        )
    if latent[2:] != known[2:]:
        raise ValueError(
            f"The latents of the known frames are {known[-1]}x{known[-2]}, but those of the video are "
            f"{latent[-1]}x{latent[-2]}: connect the latent output of the same conditioning node, or Resize Known "
            "Frames for a second pass."
        )
