"""Encoders for `run.py evaluate`, loaded from the user's files. Nothing is downloaded.

Frames are uint8 [T, H, W, 3]. Embeddings are float32: [T, D] for frames, [D] for texts and videos.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Embed = Callable[[np.ndarray], Tensor]
FRAMES_AT_ONCE = 16


def load_clip(folder: Path) -> tuple[Embed, Callable[[str], Tensor]]:
    """Load a CLIP model in Hugging Face's layout; return its encoders of frames and of texts, in one space.

    Raises:
        ValueError: the folder is not such a model.
    """
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    model, processor = (_pretrained(loader, folder) for loader in (AutoModel, AutoImageProcessor))
    tokenizer = _pretrained(AutoTokenizer, folder)
    if not hasattr(model, "get_text_features"):
        raise ValueError(
            f"{folder} contains a {type(model).__name__}, which does not embed both images and texts: "
            "give the folder of a CLIP model."
        )

    @torch.no_grad()
    def image(frames: np.ndarray) -> Tensor:
        parts = np.array_split(frames, range(FRAMES_AT_ONCE, len(frames), FRAMES_AT_ONCE))
        inputs = (processor(images=list(part), return_tensors="pt") for part in parts)
        return torch.cat([_features(model.get_image_features(**of_part)) for of_part in inputs]).float()

    @torch.no_grad()
    def text(prompt: str) -> Tensor:
        tokens = tokenizer([prompt], truncation=True, max_length=_text_length(model), return_tensors="pt")
        return _features(model.get_text_features(**tokens))[0].float()

    return image, text


def load_vision(file: Path | str) -> Any:
    """Load a file of models/clip_vision, such as DINOv2, as ComfyUI does.

    Raises:
        ValueError: ComfyUI does not know the file.
    """
    import comfy.clip_vision

    try:
        model = comfy.clip_vision.load(str(file))
    except Exception as error:  # ComfyUI raises many kinds of exceptions
        raise ValueError(f"{file} cannot be loaded as an image encoder: {error}") from error
    if model is None:
        raise ValueError(f"{file} is not an image encoder that ComfyUI knows: give a CLIP vision or DINOv2 file.")
    return model


def load_image_encoder(file: Path) -> Embed:
    """Return the encoder of frames of a file, see `load_vision`."""
    model = load_vision(file)

    def image(frames: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(frames).float() / 255
        return torch.cat([model.encode_image(part)["image_embeds"] for part in pixels.split(FRAMES_AT_ONCE)]).float()

    return image


def load_video_encoder(path: Path) -> Embed:
    """Load an encoder of whole videos: I3D as TorchScript, or a folder with VideoMAE or V-JEPA.

    I3D is the file of StyleGAN-V (i3d_torchscript.pt), with which FVD is published.

    Raises:
        ValueError: the path is neither.
    """
    if not path.is_dir():
        return _load_i3d(path)
    from transformers import AutoImageProcessor, AutoModel, AutoVideoProcessor

    model = _pretrained(AutoModel, path)
    takes_videos = hasattr(model.config, "frames_per_clip")  # V-JEPA; VideoMAE's processor takes images
    count = getattr(model.config, "frames_per_clip" if takes_videos else "num_frames", None)
    if not count:
        raise ValueError(
            f"{path} contains a {type(model).__name__}, which does not embed videos: give the folder of "
            "a VideoMAE or V-JEPA model."
        )

    processor = _pretrained(AutoVideoProcessor if takes_videos else AutoImageProcessor, path)
    name = "videos" if takes_videos else "images"

    @torch.no_grad()
    def video(frames: np.ndarray) -> Tensor:
        picked = list(frames[np.linspace(0, len(frames) - 1, count).round().astype(int)])
        (pixels,) = processor(**{name: picked}, return_tensors="pt").values()
        pixels = pixels if pixels.ndim == 5 else pixels[None]
        return model(pixels).last_hidden_state[0].mean(0).float()

    return video


def _load_i3d(file: Path) -> Embed:
    try:
        model = torch.jit.load(str(file), map_location="cpu").eval()
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{file} is neither a TorchScript file nor a model folder: {reason}") from error

    @torch.no_grad()
    def video(frames: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(frames).float().movedim(-1, 0)[None]
        try:
            return model(pixels, rescale=True, resize=True, return_features=True)[0].float()
        except RuntimeError as error:
            raise ValueError(
                f"{file} cannot embed a video of {len(frames)} frames ({str(error).splitlines()[-1]}). I3D needs about "
                "10 frames: make longer videos, or leave --video-encoder out."
            ) from error

    return video


def _pretrained(loader: Any, folder: Path) -> Any:
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is not a model folder: it has no config.json.")
    try:
        loaded = loader.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ValueError(f"{folder} cannot be loaded: {str(error).splitlines()[0]}") from error
    return loaded.eval() if hasattr(loaded, "eval") else loaded


def _features(output: Any) -> Tensor:
    """Return the embeddings, which newer versions of transformers wrap in an object."""
    return output if isinstance(output, Tensor) else output.pooler_output


def _text_length(model: Any) -> int:
    return getattr(getattr(model.config, "text_config", None), "max_position_embeddings", 77)
