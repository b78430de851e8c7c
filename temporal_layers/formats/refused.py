"""Files that look like temporal layers but do not work with an image checkpoint, with the reason and what to do."""

from __future__ import annotations

from ..reader import Weights

OTHER = "choose layers for SD 1.5, SD 2.1 or SDXL, such as AnimateDiff's"
TUNED = "a whole model with newly trained image weights, so its layers do not work with other checkpoints"
REFUSED = {
    r".*(time_mixer\.mix_factor|time_stack\.|temporal_transformer_blocks\.)": (
        f"Stable Video Diffusion, {TUNED}; open it as a whole image-to-video checkpoint"
    ),
    r"(controlnet_cond_embedding|controlnet_down_blocks)\.": (
        "SparseCtrl, a separate network beside the UNet, which neither Emu Video nor ComfyUI supports"
    ),
    r"img_encoder\.": ("AnimateLCM-I2V, whose image encoder is not supported; use AnimateLCM's text-to-video file"),
    r"image_latents_proj_in\.": f"I2VGen-XL, {TUNED}; {OTHER}",
    r"(init_attn|image_proj_model)\.|.*\.to_k_ip\.": f"DynamiCrafter or VideoCrafter, {TUNED}; {OTHER}",
    r".*(conv3ds|tempo_attns)\.": (f"ConsistI2V, which changes the spatial attention of the image model; {OTHER}"),
    r".*\.attn_temp\.": f"LaVie or SEINE, {TUNED}; {OTHER}",
    r".*(motion_modules|temporal_attentions).*lora": (
        "a motion LoRA, which changes temporal layers; load temporal layers first, then this file as a motion LoRA"
    ),
    r".*(attn[12]|attentions).*lora": "a LoRA for the image model; load it as an ordinary LoRA",
}


def check(weights: Weights) -> None:
    """Raise ValueError for a file of one of these kinds."""
    for pattern, reason in REFUSED.items():
        if weights.has(pattern):
            raise ValueError(f"{weights.path} holds {reason}.")
