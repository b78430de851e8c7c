"""ComfyUI's loaders without its server, for commands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def start() -> None:
    """Set up ComfyUI's modules like its server. They use the CPU without a GPU, and find models in all folders.

    COMFYUI_MODELS names the folder of models; the default is that of ComfyUI. Call this before anything else imports
    a module of ComfyUI.
    """
    import comfy.cli_args
    import torch

    if not any(kind.is_available() for kind in (torch.cuda, torch.backends.mps, torch.xpu)):
        comfy.cli_args.args.cpu = True
    comfy.cli_args.args.models_directory = os.environ.get("COMFYUI_MODELS")
    import folder_paths
    from utils.extra_config import load_extra_path_config

    from . import folders, pocket

    extra = Path(folder_paths.__file__).with_name("extra_model_paths.yaml")
    if extra.is_file():
        load_extra_path_config(str(extra))
    folders.register()
    pocket.register()


def load_checkpoint(name: str) -> tuple[Any, Any, Any]:
    """Return MODEL, CLIP and VAE of an image checkpoint: a path, or a name in models/checkpoints.

    CLIP or VAE is None if the file does not contain it.

    Raises:
        ValueError: the file is missing, damaged or not an image checkpoint.
    """
    import comfy.sd
    import torch

    path = find("checkpoints", name)
    try:
        model, clip, vae, *_ = comfy.sd.load_checkpoint_guess_config(path)
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise ValueError(
            f"{name} does not fit into memory: close other programs, or use a smaller checkpoint."
        ) from error
    except Exception as error:  # of any class, for a damaged file
        reason = str(error).strip() or type(error).__name__
        raise ValueError(f"{name} cannot be read as an image checkpoint ({reason}): choose another file.") from error
    if model is None:
        raise ValueError(f"{name} has no diffusion model: choose an image checkpoint.")
    return model, clip, vae


def find(folder: str, name: str) -> str:
    """Return the path of a model file: a path, or a name in ComfyUI's `folder`, such as "checkpoints".

    Raises:
        ValueError: for another name. The message lists the available files.
    """
    import folder_paths

    if Path(name).is_file():
        return name
    path = folder_paths.get_full_path(folder, name)
    if path is None:
        known = ", ".join(folder_paths.get_filename_list(folder)) or "no file"
        place = folder_paths.get_folder_paths(folder)[0]
        raise ValueError(
            f"{name} is neither a file nor a name in models/{folder}, which contains {known}. "
            f"Choose one of them, or put the file into {place}."
        )
    return path
