"""CLIP scores of pictures, for filters in the preparation of clips."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import comfy.sd
import numpy as np
import torch
from torch import Tensor

from .prepare import tokens

LINEAR = re.compile(r"(?<![^.])(\d+)\.weight$")


def clip_score(vision: Any, clip: Any) -> Callable[[np.ndarray, str], float]:
    """Return a function that scores a picture against a caption: cosine of CLIP's two embeddings, -1 to 1.

    Raises:
        ValueError: CLIP and CLIP vision do not belong to the same model.
    """
    image_width = image_embedding(vision, np.zeros((8, 8, 3), np.uint8)).shape[-1]
    key, tower = _projecting_tower(clip, image_width)

    def score(picture: np.ndarray, caption: str) -> float:
        found = tokens(clip, caption)
        clip.cond_stage_model.reset_clip_options()
        clip.load_model(found)
        tower.set_clip_options({"execution_device": clip.patcher.load_device, "projected_pooled": True})
        _, pooled = tower.encode_token_weights(found[key][:1])[:2]
        pair = image_embedding(vision, picture).cpu(), pooled[0].float().cpu()
        return float(torch.nn.functional.cosine_similarity(*pair, dim=0))

    return score


def _projecting_tower(clip: comfy.sd.CLIP, width: int) -> tuple[str, Any]:
    """Return the text encoder whose embedding has the width of the picture's, and the key of its tokens."""
    seen = []
    for key in tokens(clip, ""):
        tower = getattr(clip.cond_stage_model, f"clip_{key}", None)
        projection = getattr(getattr(tower, "transformer", None), "text_projection", None)
        if projection is None:
            continue
        weight = projection.weight.float()
        trained = not torch.equal(weight.cpu(), torch.eye(*weight.shape))
        seen.append(f"{key}: {weight.shape[0]}{'' if trained else ', without its projection'}")
        if trained and weight.shape[0] == width:
            return key, tower
    raise ValueError(
        f"The CLIP vision model gives {width} numbers, but no text encoder fits it ({'; '.join(seen) or 'none'}). "
        "SD1.5 checkpoints do not contain the text projection: choose a complete CLIP-L file, such as "
        "clip_l.safetensors."
    )


def image_embedding(vision: Any, picture: np.ndarray) -> Tensor:
    """Return CLIP's projected embedding [D] float32 of a picture uint8 [h, w, 3]."""
    return vision.encode_image(torch.from_numpy(np.ascontiguousarray(picture)).float()[None] / 255)["image_embeds"][
        0
    ].float()


def aesthetic_score(vision: Any, head: dict[str, Tensor], name: str) -> Callable[[np.ndarray], float]:
    """Return a function that rates a picture, about 1 to 10, by LAION's linear layers on CLIP ViT-L/14 embeddings.

    Raises:
        ValueError: `head` is not such a file, or is made for another CLIP vision model.
    """
    names = sorted((int(found[1]), found[0]) for found in map(LINEAR.search, head) if found)
    keys = [next(key for key in head if key.endswith(weight)) for _, weight in names]
    layers = [(head[key].float(), head[key.removesuffix("weight") + "bias"].float()) for key in keys]
    if not layers or layers[-1][0].shape[0] != 1:
        raise ValueError(f"{name} is not an aesthetic predictor of linear layers: use LAION's predictor, version 2.")
    width = image_embedding(vision, np.zeros((8, 8, 3), np.uint8)).shape[-1]
    if layers[0][0].shape[1] != width:
        raise ValueError(
            f"{name} reads {layers[0][0].shape[1]} numbers, but this CLIP vision model gives {width}: use ViT-L/14."
        )

    def score(picture: np.ndarray) -> float:
        value = torch.nn.functional.normalize(image_embedding(vision, picture).cpu(), dim=0)
        for weight, bias in layers:
            value = torch.nn.functional.linear(value, weight, bias)
        return float(value)

    return score
