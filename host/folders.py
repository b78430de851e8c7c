"""The model folders of this pack, in addition to ComfyUI's."""

from __future__ import annotations

import functools
import logging
import os
import shutil
from pathlib import Path

import folder_paths
from torch import Tensor

from ..pocket.shipped import WEIGHTS
from ..temporal_layers.files import stated_role
from ..temporal_layers.formats import CHOICES, Options, load
from ..temporal_layers.info import LayersInfo
from ..temporal_layers.reader import Weights, read

TEMPORAL_LAYERS = "temporal_layers"
FAMILIES = tuple(CHOICES)
"""Families that a user can select for a file that cannot be identified automatically."""
MOTION_LORAS = "emu_video_motion_loras"
INPUT_FILES = Path(__file__).parent.parent / "workflows" / "input"
"""Pictures and folders of clips that the templates load."""
SOURCES = {
    TEMPORAL_LAYERS: (TEMPORAL_LAYERS, "animatediff_models"),
    MOTION_LORAS: ("loras", "animatediff_motion_lora"),
}
"""Folder type -> types whose folders it includes: this pack's or ComfyUI's, then AnimateDiff-Evolved's."""
EXTENSIONS = {".safetensors", ".sft", ".ckpt", ".pth", ".pt", ".bin"}  # pickles are read without running code


def register() -> None:
    """Make `models/temporal_layers` and the weights shipped with the pack visible to ComfyUI's file lists.

    Folders named in extra_model_paths.yaml are kept and come first.
    """
    folder_paths.add_model_folder_path(TEMPORAL_LAYERS, os.path.join(folder_paths.models_dir, TEMPORAL_LAYERS))
    for folder in (TEMPORAL_LAYERS, "checkpoints"):
        folder_paths.add_model_folder_path(folder, str(WEIGHTS / folder))
    for folder in SOURCES:
        update(folder)


def output_folder(kind: str, name: str, purpose: str, example: str) -> Path:
    """Return the folder `kind`/`name` in ComfyUI's output folder.

    purpose, example: what the name is for, and a good name, for the message.

    Raises:
        ValueError: `name` is empty or points outside of the folder `kind`.
    """
    root = Path(folder_paths.get_output_directory()).resolve() / kind
    folder = (root / name.strip()).resolve()
    if not name.strip() or root not in folder.parents:
        raise ValueError(
            f'"{name}" is not a valid name for {purpose}: use letters, digits and _, for example {example}.'
        )
    return folder


def copy_input_files() -> None:
    """Copy pictures and clips of the templates into ComfyUI's input folder; those that are there stay."""
    folder = Path(folder_paths.get_input_directory())
    for source in INPUT_FILES.glob("*"):
        if not (folder / source.name).exists():
            try:
                folder.mkdir(parents=True, exist_ok=True)
                (shutil.copytree if source.is_dir() else shutil.copyfile)(source, folder / source.name)
            except OSError as error:
                logging.warning(f"Emu Video: {source.name} cannot be copied into {folder}: {error}.")


def update(folder: str) -> None:
    """Add the folders of all sources to `folder`. Call it before each use, because other packs register folders at any
    time.

    AnimateDiff-Evolved's default folders are read even when that pack is not installed.
    """
    known = folder_paths.folder_names_and_paths
    paths: dict[str, None] = {}  # in order, each once
    extensions = set(EXTENSIONS)
    for source in SOURCES[folder]:
        default = os.path.join(folder_paths.models_dir, source)
        listed, allowed = known.get(source, ([default], set()))
        extensions |= set(allowed)
        paths |= dict.fromkeys((*listed, default))
    known[folder] = (list(paths), extensions)


def model_files(folder: str) -> list[str]:
    """Return the names of all files of a folder type of `SOURCES`."""
    update(folder)
    return folder_paths.get_filename_list(folder)


def layer_files() -> list[str]:
    """Return the files of temporal layers. Those that make videos from scratch come first.

    The first file is the default of Load Temporal Layers.
    """
    return sorted(model_files(TEMPORAL_LAYERS), key=_needs_a_video)


def _needs_a_video(name: str) -> bool:
    try:
        path = full_path(TEMPORAL_LAYERS, name)
        file = os.stat(path)
    except OSError:  # a broken link, or a file that is gone since the folder was listed
        return True
    return _role(path, file.st_mtime_ns, file.st_size) not in ("", "video")


@functools.cache
def _role(path: str, _modified: int, _size: int) -> str:
    return stated_role(path)


def full_path(folder: str, name: str) -> str:
    """Return the path of a file that `model_files` lists. Raises FileNotFoundError."""
    update(folder)
    return folder_paths.get_full_path_or_raise(folder, name)


def read_layers(name: str, family: str, *group_norms: str) -> tuple[dict[str, Tensor], LayersInfo]:
    """Return the weights of a file of temporal layers, and what they are.

    Args:
        family: one of `FAMILIES`, or "" to identify the file by its keys and shapes.
        group_norms: of the temporal transformers and of the checkpoint's residual blocks, see `formats.Options`.
    """
    return load(full_path(TEMPORAL_LAYERS, name), Options(family, *group_norms))


def read_motion_lora(name: str) -> Weights:
    """Return the weights of a motion LoRA file."""
    return read(full_path(MOTION_LORAS, name))


def fingerprint(folder: str, name: str | None) -> tuple[int, int]:
    """Return the cache key of a model file (mtime, size). ComfyUI reloads the file when the key changes.

    A name from a linked input is not known yet (None). The file is then read again only when the name changes.
    """
    if name is None:
        return 0, 0
    file = os.stat(full_path(folder, name))
    return file.st_mtime_ns, file.st_size
