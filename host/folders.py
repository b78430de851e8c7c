"""The model folders that the pack adds to ComfyUI's own."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

TEMPORAL_LAYERS = "temporal_layers"
EXTENSIONS = {".safetensors", ".sft", ".ckpt", ".pth", ".pt", ".bin"}  # pickles are read as weights alone
SHIPPED_WEIGHTS = Path(__file__).resolve().parent.parent / "pocket" / "weights"


def register() -> None:
    """Makes `models/temporal_layers` and the weights shipped with the pack visible to ComfyUI's file lists.

    Folders that extra_model_paths.yaml names are kept, and stay first.
    """
    folder_paths.add_model_folder_path(TEMPORAL_LAYERS, os.path.join(folder_paths.models_dir, TEMPORAL_LAYERS))
    for folder in (TEMPORAL_LAYERS, "checkpoints"):
        folder_paths.add_model_folder_path(folder, str(SHIPPED_WEIGHTS / folder))
    # ComfyUI gives a folder type of its own an empty set of extensions, which lists every file there is.
    paths, extensions = folder_paths.folder_names_and_paths[TEMPORAL_LAYERS]
    folder_paths.folder_names_and_paths[TEMPORAL_LAYERS] = (paths, set(extensions) | EXTENSIONS)


def fingerprint(folder: str, name: str) -> tuple[int, int]:
    """What `fingerprint_inputs` of a node that reads a model file gives: written anew, the file is loaded anew."""
    file = os.stat(folder_paths.get_full_path_or_raise(folder, name))
    return file.st_mtime_ns, file.st_size
