"""Text encoders of SD 1.5, SD 2.1 and SDXL, narrow and with random weights, built by ComfyUI's own classes."""

from __future__ import annotations

from types import SimpleNamespace

import comfy.sd
import comfy.sdxl_clip
import torch
from comfy import sd1_clip
from comfy.text_encoders import sd2_clip

CLASSES = {
    "sd15": (sd1_clip.SD1ClipModel, sd1_clip.SD1Tokenizer),
    "sd21": (sd2_clip.SD2ClipModel, sd2_clip.SD2Tokenizer),
    "sdxl": (comfy.sdxl_clip.SDXLClipModel, comfy.sdxl_clip.SDXLTokenizer),
}


@torch.inference_mode()
def narrow_clip(base: str, width: int) -> comfy.sd.CLIP:
    """A CLIP whose texts are `width` wide."""
    each = width // 2 if base == "sdxl" else width  # SDXL concatenates two encoders
    config = {
        "hidden_size": each,
        "projection_dim": each,
        "intermediate_size": 2 * each,
        "num_attention_heads": 2,
        "num_hidden_layers": 3,
    }
    options = {f"clip_{name}_model_config": dict(config) for name in "lgh"}
    model, tokenizer = CLASSES[base]
    clip = comfy.sd.CLIP(SimpleNamespace(params={}, clip=model, tokenizer=tokenizer), model_options=options)
    generator = torch.Generator().manual_seed(0)
    for parameter in clip.cond_stage_model.parameters():
        scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.1
        parameter.copy_(scale * torch.randn(parameter.shape, generator=generator) + (parameter.ndim == 1))
    return clip
