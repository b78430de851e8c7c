"""Encoders for the preparation of clips, from ComfyUI's MODEL, VAE and CLIP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.utils
import folder_paths
import numpy as np
import torch
from torch import Tensor, nn

from ..temporal_layers.backbones import identify_base
from ..training.clips import PREFIX
from ..training.prepare.prepare import prepare
from ..training.prepare.settings import Settings
from ..training.prepare.shards import Encoders, digest
from ..training.prepare.sources import files_below
from .fingerprint import fingerprint
from .folders import output_folder
from .given_frames import compression, encode

DATASETS = "datasets"
STAGES = ("scan", "score", "encode")


def dataset_folder(name: str) -> Path:
    """Return the folder of a dataset, see `output_folder`."""
    return output_folder(DATASETS, name, "a dataset", "my_clips")


def source_folder(name: str) -> Path:
    """Return the path of a folder of videos, which may be a folder in ComfyUI's input folder.

    Raises:
        ValueError: the name is empty.
    """
    if not name.strip().strip('"'):
        raise ValueError(
            "folder is empty: write the path of a folder of videos, or the name of a folder in ComfyUI's input folder."
        )
    folder = Path(name.strip().strip('"')).expanduser()
    return folder if folder.is_absolute() else Path(folder_paths.get_input_directory()) / folder


def stamp(folder: str) -> str:
    """Return a cache key of the files in a folder of videos: names, sizes and modification times."""
    try:
        files, _ = files_below(source_folder(folder))
    except ValueError:  # the node itself says what is wrong
        return ""
    return digest([(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files])


def encoders(
    model: comfy.model_patcher.ModelPatcher | None, clip: comfy.sd.CLIP | None, vae: comfy.sd.VAE | None
) -> Encoders:
    """Return the functions that `prepare` encodes with.

    Raises:
        ValueError: MODEL, VAE or CLIP is missing or does not fit the others.
    """
    if model is None:
        raise ValueError("There is no MODEL, because this file contains no UNet: use an image checkpoint.")
    if clip is None:
        raise ValueError("There is no CLIP, because this checkpoint contains none: load one with Load CLIP.")
    base, ratio = identify_base(model.model.diffusion_model), compression(vae)
    assert vae is not None and vae.first_stage_model is not None
    latent_format = model.model.latent_format
    if getattr(vae, "latent_channels", latent_format.latent_channels) != latent_format.latent_channels:
        raise ValueError(
            f"This VAE's latents have {vae.latent_channels} channels, but the model needs "
            f"{latent_format.latent_channels}: use the VAE of the checkpoint."
        )

    def latents(frames: Tensor) -> Tensor:
        return latent_format.process_in(encode(vae, frames))

    return Encoders(
        frames=latents,
        text=lambda caption: _text(clip, caption),
        windows=lambda caption: max(len(windows) for windows in tokens(clip, caption).values()),
        ratio=ratio,
        channels=latent_format.latent_channels,
        identity={
            "vae": fingerprint(cast(nn.Module, vae.first_stage_model), vae.patcher),
            "clip": fingerprint(clip.cond_stage_model, clip.patcher),
            "clip_layer": clip.layer_idx,
            "latent_format": [type(latent_format).__name__, latent_format.scale_factor],
        },
        base={"name": base, "hash": fingerprint(model.model.diffusion_model, model)},
    )


def tokens(clip: comfy.sd.CLIP, caption: str) -> dict[str, list]:
    """Return the tokens of a caption. Parentheses are text, not weights."""
    return clip.tokenize(caption.replace("(", "\\(").replace(")", "\\)"))


def _text(clip: comfy.sd.CLIP, caption: str) -> dict[str, Tensor]:
    ((embedding, more),) = clip.encode_from_tokens_scheduled(tokens(clip, caption))
    found = {"text": embedding[0]}
    for name, value in more.items():
        if isinstance(value, Tensor):
            found["pooled" if name == "pooled_output" else PREFIX + name] = value[0]
    return found


def progress_bar() -> Callable[[str, int, int], None]:
    """Return a progress callback that moves ComfyUI's bar, and that raises when the user presses Cancel."""
    bar = comfy.utils.ProgressBar(len(STAGES) * 1000)

    def progress(stage: str, done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(STAGES.index(stage) * 1000 + done * 1000 // max(1, total))

    return progress


def prepare_clips(
    model: comfy.model_patcher.ModelPatcher,
    clip: comfy.sd.CLIP | None,
    vae: comfy.sd.VAE | None,
    *,
    folder: str,
    name: str,
    **settings,
) -> tuple[Tensor, str]:
    """Prepare the videos of `folder` as the dataset `name`, with ComfyUI's progress bar and Cancel.

    settings: Fields of `Settings`.

    Returns:
        The contact sheet as an IMAGE [1, h, w, 3], and the report.
    """
    made_by = encoders(model, clip, vae)
    prepared = prepare(source_folder(folder), dataset_folder(name), made_by, Settings(**settings), progress_bar())
    return torch.from_numpy(np.ascontiguousarray(prepared.sheet)).float()[None] / 255, prepared.report
