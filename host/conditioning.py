"""The three conditionings of a video with given frames, and its empty latent."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import node_helpers
import torch
from torch import Tensor

from ..diffusion.known_frames import add_known_noise, concat_conditioning, mask_with_noise_level
from ..diffusion.schedule import Schedule
from ..diffusion.windows import Layout, Window, known_at
from ..temporal_layers.info import AFFINITY, KNOWN_FRAMES, LayersInfo
from .given_frames import GivenFrames, one_image
from .injection import check_layers, layers_info
from .memory import bytes_in_words, check_memory
from .notices import notice
from .prompt_schedule import text_of_window
from .spans import Span, VideoPart
from .videos import PURPOSE, Purpose

KNOWN_NOISE = 0x6B6E6F776E  # makes the given frames' noise independent of the initial noise of the same seed
NOISE_CONCAT = "noise_concat"  # the conditioning key that ComfyUI appends to the noisy latent's channels
SOURCE = "emu_video_source"  # key in the options of a conditioning, see `Source`
# Advice for a video that does not fit into memory, by role.
ADVICE = {
    "video": "make fewer or smaller frames",
    "interpolation": "lower the factor or the size, or go through the video in parts with Get Image from Batch",
    "super_resolution": "lower the factor, or go through the video in parts with Get Image from Batch",
}
CONDITIONING_NODES = {KNOWN_FRAMES: "First Frame Conditioning", AFFINITY: "Image and Affinity Conditioning"}

Part = Literal["positive", "image_only", "negative"]
Conditionings = tuple[list, list, list, dict[str, Any]]
"""(text and known frames, known frames only, neither, empty LATENT)"""


@dataclass(frozen=True)
class NoiseAugmentation:
    """Noise on the given frames: its level as a timestep, 0 for none, and its seed."""

    level: int = 0
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Source:
    """Inputs from which a conditioning can be made again at another size: given frames, and a function.

    channels: latents [n, C, h, w] in the network's scale -> [T, C + 1, h, w].
    """

    given: GivenFrames
    channels: Callable[[Tensor], Tensor]


def first_frame_conditioning(
    model: comfy.model_patcher.ModelPatcher,
    vae: comfy.sd.VAE | None,
    image: Tensor,
    positive: list,
    negative: list,
    *,
    frames: int,
) -> Conditionings:
    """Make the conditionings of `frames` frames that start with `image`; `negative` is the null text.

    image: IMAGE [1, H, W, 3] in 0..1. In the third conditioning, known frames and mask are all zeros.
    The LATENT has no `batch_index`, so that a seed gives the same video as in versions without layouts.
    """
    check_frame_count(frames)
    given = GivenFrames(one_image(image, "first frame"))
    (made,) = layout_conditioning(model, vae, given, positive, negative, layout=known_at([0], frames), is_joined=False)
    return made


def layout_conditioning(
    model: comfy.model_patcher.ModelPatcher,
    vae: comfy.sd.VAE | None,
    given: GivenFrames,
    positive: list,
    negative: list,
    *,
    layout: Layout,
    role: str = "video",
    noise: NoiseAugmentation = NoiseAugmentation(),
    is_joined: bool = True,
) -> list[Conditionings]:
    """Make one set of conditionings for each window of `layout`; the windows are sampled one by one.

    role: role that the temporal layers must have. noise: drawn once for each given frame, so that a frame known to two
    windows has the same noise in both. is_joined: whether Join Video follows. The LATENTs then have `batch_index`, the
    position of each frame in the whole video, from which ComfyUI draws the initial noise. So overlapping windows have
    the same noise.
    """
    info = check_role(model, role)
    sampled = sum(window.frames for window in layout.windows)
    check_room(layout.frames, layout.frames + sampled if is_joined else sampled, given.size(vae), ADVICE[role])
    check_noise(info, noise)
    noisy = Augmented(info, layout, noise)
    latents = noisy.add(network_latents(model, given.part(noisy.used).encoded(vae)))
    results = []
    for window in layout.windows:
        source = Source(given.part(window.given), noisy.remake(window))
        texts = [
            text_of_window(text, start=window.start, frames=window.frames, total=layout.frames)
            for text in (positive, negative)
        ]
        part = None if window.frames == layout.frames else VideoPart(Span.of(window, layout))
        made = conditionings(noisy.channels(latents, window), *texts, role=role, source=source, video_part=part)
        if is_joined:
            made[-1]["batch_index"] = list(range(window.start, window.start + window.frames))
        results.append(made)
    return results


@dataclass(frozen=True)
class Augmented:
    """Given frames of a layout with noise augmentation, and the conditioning channels made of them."""

    info: LayersInfo
    layout: Layout
    noise: NoiseAugmentation

    @property
    def used(self) -> range:
        """Return the given frames that a window knows."""
        return range(self.layout.windows[0].given.start, self.layout.windows[-1].given.stop)

    @property
    def schedule(self) -> Schedule:
        return Schedule.from_betas(**self.info.betas, zero_terminal_snr=self.info.zero_terminal_snr)

    def add(self, latents: Tensor) -> Tensor:
        """Add noise to the latents of the used frames [n, C, h, w], in the network's scale."""
        generator = torch.Generator().manual_seed(self.noise.seed ^ KNOWN_NOISE)
        return add_known_noise(latents, self.noise.level, self.schedule, generator)

    def channels(self, noisy: Tensor, window: Window) -> Tensor:
        """Return the conditioning [T, C + 1, h, w] of one window, from the noisy latents of all used frames."""
        known_latents, mask = self.layout.place(noisy[self._within(window)], window)
        if self.info.noise_told:
            mask = mask_with_noise_level(mask, self.noise.level, self.schedule)
        return concat_conditioning(known_latents, mask)

    def remake(self, window: Window) -> Callable[[Tensor], Tensor]:
        """Return the function of `Source`: from clean latents of the window's given frames to its channels."""

        def channels(latents: Tensor) -> Tensor:
            clean = latents.new_zeros(len(self.used), *latents.shape[1:])
            clean[self._within(window)] = latents
            return self.channels(self.add(clean), window)

        return channels

    def _within(self, window: Window) -> slice:
        return slice(window.given.start - self.used.start, window.given.stop - self.used.start)


def conditionings(
    channels: Tensor,
    positive: list,
    negative: list,
    *,
    role: str,
    order: str = KNOWN_FRAMES,
    source: Source | None = None,
    video_part: VideoPart | None = None,
) -> Conditionings:
    """Make the conditionings of channels [T, C + 1, h, w] in the network's scale.

    role, order, video_part: see `Purpose`.
    """
    frames, count, *size = channels.shape
    empty = torch.zeros(
        frames, count - 1, *size, device=comfy.model_management.intermediate_device(), dtype=channels.dtype
    )

    def made(text: list, part: Part, channels: Tensor) -> list:
        # A text may carry the source of an earlier conditioning node, so the source is set even where it is None.
        values = {NOISE_CONCAT: channels, PURPOSE: Purpose(role, part, frames, order, video_part), SOURCE: source}
        return node_helpers.conditioning_set_values(text, values)

    return (
        made(positive, "positive", channels),
        made(negative, "image_only", channels),
        made(negative, "negative", torch.zeros_like(channels)),
        {"samples": empty},
    )


def network_latents(model: comfy.model_patcher.ModelPatcher, latents: Tensor, order: str = KNOWN_FRAMES) -> Tensor:
    """Convert latents [n, C, h, w] from the VAE's own scale to the scale that the network sees.

    order: order of the conditioning channels that the caller makes of them.

    Raises:
        ValueError: for latents of another model, and for temporal layers that read no known frames or use another
        order.
    """
    latent_format: Any = model.get_model_object("latent_format")
    if latents.shape[1] != latent_format.latent_channels:
        raise ValueError(
            f"The latents have {latents.shape[1]} channels, but the model takes {latent_format.latent_channels}: "
            "use the VAE of the same checkpoint, and latents that were made with it."
        )
    info = layers_info(model)
    if info is None or info.conditioning_channels != latents.shape[1] + 1:
        family = f" ({info.family})" if info else ""
        raise ValueError(
            f"These temporal layers{family} read no known frames: load layers that do, or sample an empty latent batch "
            "with KSampler."
        )
    if info.conditioning != order:
        raise ValueError(
            f"These temporal layers ({info.family}) need another conditioning node: use "
            f"{CONDITIONING_NODES[info.conditioning]}."
        )
    return latent_format.process_in(latents)


def check_role(model: comfy.model_patcher.ModelPatcher, role: str) -> LayersInfo:
    """Return the info of the MODEL's temporal layers. Raises ValueError if they were trained for another role."""
    info = check_layers(model)
    if info.role != role:
        raise ValueError(
            f"These temporal layers have the role {info.role}, but this node needs the role {role}: pick another "
            "file in Load Temporal Layers."
        )
    return info


def check_noise(info: LayersInfo, noise: NoiseAugmentation) -> None:
    """Warn of noise on given frames that the layers' file does not mention."""
    if noise.level and not info.noise_told:
        notice(
            f"The file of these temporal layers ({info.family}) does not say that they know noise on the given frames, "
            "and layers without it copy the noise: set noise_level to 0, unless they were trained with it."
        )


def check_frame_count(frames: int) -> None:
    """Raise ValueError for a video of one frame."""
    if frames < 2:
        raise ValueError(
            f"A video needs at least 2 frames, got {frames}: set frames to the number that the temporal "
            "layers were trained on, or make a single image with KSampler alone."
        )


def check_room(frames: int, in_memory: int, size: tuple[int, int], advice: str) -> None:
    """Log the memory of a decoded video. Raises ValueError if less is free.

    in_memory: frames that are in memory at the same time: the video's, and its windows' before they are joined.
    size: height and width in pixels.
    """
    needed = in_memory * size[0] * size[1] * 3 * 4  # float32, as an IMAGE is
    what = f"{frames} frames of {size[1]}x{size[0]}"
    logging.info(f"Emu Video: {what} need about {bytes_in_words(needed)} of memory after decoding.")
    check_memory(needed, what, advice, comfy.model_management.intermediate_device())
