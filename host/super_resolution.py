"""Conditionings for super-resolution: all frames known, upsampled and with noise (Ho et al. 2022)."""

from __future__ import annotations

import math

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.utils
from torch import Tensor

from ..diffusion.resize import matched
from ..diffusion.tiles import TiledLayout, tiled
from .conditioning import (
    ADVICE,
    Augmented,
    Conditionings,
    NoiseAugmentation,
    check_noise,
    check_role,
    check_room,
    conditionings,
    network_latents,
)
from .given_frames import GivenFrames, compression, rgb
from .prompt_schedule import text_of_window
from .spans import Span, VideoPart
from .videos import FRAMES

ROLE = "super_resolution"
OVERLAP = 4  # windows and tiles share a quarter with their neighbour


def super_resolution_conditioning(
    model: comfy.model_patcher.ModelPatcher,
    vae: comfy.sd.VAE | None,
    given: GivenFrames,
    positive: list,
    negative: list,
    *,
    factor: int,
    noise: NoiseAugmentation,
    window: int = 0,
    tile: int = 0,
    is_noise_shared: bool = False,
) -> tuple[list[Conditionings], TiledLayout]:
    """Make one set of conditionings for each window in time and tile in space, and the layout that joins them.

    factor: upscaling factor. It must equal the factor in the layers' file, if the file states one.
    window: frames per window; 0 = the number that the layers were trained with.
    tile: pixels of the larger video along each side, 0 for the whole picture.
    is_noise_shared: give all frames of a tile the same initial noise (Make-A-Video, section 3.2.3).

    The LATENTs have `batch_index`, from which ComfyUI draws the initial noise: a frame in two windows has the same
    noise, tiles have different noise.
    """
    info = check_role(model, ROLE)
    if factor < 2:
        raise ValueError(f"A factor of {factor} enlarges nothing: set it to 2 or more.")
    if info.factor not in (1, factor):
        raise ValueError(
            f"These temporal layers were trained to make frames {info.factor} times larger, but factor is {factor}: "
            f"set it to {info.factor}."
        )
    check_frames(given.count, window or info.frames, model.get_attachment(FRAMES) or 0)
    ratio = compression(vae)
    check_size(given.size(vae), factor, ratio)
    height, width = (side * factor for side in given.size(vae))
    window = min(window or info.frames, given.count)
    unit = 8 * ratio  # tiles whose latents the UNet can halve three times
    if 0 < tile < unit:
        raise ValueError(f"A tile of {tile} pixels is too small: use {unit} or more, or 0 for the whole picture.")
    tile = tile // unit * unit
    layout = tiled(
        given.count,
        height,
        width,
        window=window,
        overlap=max(1, window // OVERLAP) if window < given.count else 0,
        tile=tile,
        tile_overlap=tile // OVERLAP // ratio * ratio,
    )
    # The upsampled video, and the windows with what joining makes of them.
    check_room(given.count, given.count + layout.peak_pixels // (height * width), (height, width), ADVICE[ROLE])
    check_noise(info, noise)
    noisy = Augmented(info, layout.time, noise)
    latents = noisy.add(network_latents(model, given.resized(vae, height, width).encoded(vae)))
    tiles = len(layout.rows.windows) * len(layout.columns.windows)
    results = []
    for index, (frames, rows, columns) in enumerate(layout.windows):
        tile_span = Span.of(rows, layout.rows, ratio), Span.of(columns, layout.columns, ratio)
        y, x = (span.within() for span in tile_span)
        part = VideoPart(Span.of(frames, layout.time), tile_span if tiles > 1 else None)
        texts = [
            text_of_window(text, start=frames.start, frames=frames.frames, total=given.count)
            for text in (positive, negative)
        ]
        made = conditionings(
            noisy.channels(latents[..., y, x], frames),
            *texts,
            role=ROLE,
            video_part=part if len(layout.windows) > 1 else None,
        )
        first = index % tiles * given.count  # seed of the tile's noise
        made[-1]["batch_index"] = [
            first if is_noise_shared else first + frame for frame in range(given.count)[frames.span]
        ]
        results.append(made)
    return results, layout


def check_frames(count: int, window: int, per_video: int) -> None:
    """Refuse fewer than two frames, and more or fewer frames than one video has.

    window: frames per window. per_video: frames of one video in the MODEL, 0 = all.
    """
    if count < 2:
        raise ValueError(
            f"A video needs at least 2 frames, but frames has {count}: connect all frames of the small video to frames."
        )
    if window == 1:
        raise ValueError(
            "A window of 1 frame is not a video: set window to 2 or more, or to 0 for the number that the layers were "
            "trained with."
        )
    if per_video and (per_video != count or window < count):
        raise ValueError(
            f"frames has {count} frames, but frames of Load Temporal Layers is {per_video}: set it to 0, and enlarge "
            "one video at a time."
        )


def check_size(size: tuple[int, int], factor: int, ratio: int) -> None:
    """Refuse a small video (height, width) that the VAE cannot encode once it is enlarged.

    ratio: pixels per latent along each side.
    """
    if any(side * factor % ratio for side in size):
        unit = ratio // math.gcd(ratio, factor)
        small, large, fitting = (
            "x".join(str(side) for side in reversed(sides))
            for sides in (size, [side * factor for side in size], [max(1, round(side / unit)) * unit for side in size])
        )
        raise ValueError(
            f"The small video is {small}, which becomes {large}, but width and height must then be multiples of "
            f"{ratio}: scale the small video, for example to {fitting}."
        )


def match_small_video(images: Tensor, small: Tensor, strength: float) -> Tensor:
    """Return an upscaled video, IMAGE [n, H, W, 3], that equals the small one when it is scaled down.

    Raises:
        ValueError: see `matched`.
    """
    progress = comfy.utils.ProgressBar(len(images))

    def on_frame() -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        progress.update(1)

    return matched(rgb(images), rgb(small), strength, on_frame)
