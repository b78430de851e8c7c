"""The pocket checkpoint for ComfyUI's stock loaders: its UNet, text encoder, tokenizer and autoencoder."""

import logging
from typing import Any, ClassVar

import comfy.latent_formats
import comfy.model_base
import comfy.ops
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import TimestepBlock, UNetModel
from torch import Tensor, nn

from ..pocket.model.autoencoder import widen
from ..pocket.model.checkpoint import SIGNATURE
from ..pocket.model.text_encoder import END, PAD, START, TextEncoder, Vocabulary, pad_tokens
from ..pocket.model.unet import TextDrivenMaps, UNetShape
from .node_text import show_complaint

UNET_CONFIG = {
    "in_channels": UNetShape.latent_channels,
    "out_channels": UNetShape.latent_channels,
    "model_channels": UNetShape.channels,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 2],
    "transformer_depth": [0, 1],
    "transformer_depth_output": [0, 0, 1, 1],
    "transformer_depth_middle": 1,
    "context_dim": UNetShape.context_dim,
    "num_classes": "sequential",
    "adm_in_channels": UNetShape.pooled_dim,
    "use_linear_in_transformer": True,
    "num_heads": -1,
    "num_head_channels": UNetShape.head_dim,
    "use_scale_shift_norm": True,
    "image_size": 32,
    "use_spatial_transformer": True,
    "legacy": False,
}
"""The shipped pocket's UNet as arguments of ComfyUI's UNetModel."""


class _TextDrivenMaps(TextDrivenMaps, TimestepBlock):
    """Text-driven maps as a TimestepBlock, to which ComfyUI's UNet passes the embedding of time and text."""


class PocketUNet(UNetModel):
    """ComfyUI's UNetModel with text-driven maps after its first convolution."""

    def __init__(
        self, *args, dtype=torch.float32, device=None, operations: Any = comfy.ops.disable_weight_init, **config
    ):
        super().__init__(*args, dtype=dtype, device=device, operations=operations, **config)
        channels = config["model_channels"]
        first: Any = self.input_blocks[0]
        first.append(_TextDrivenMaps(channels, 4 * channels, operations, dtype=dtype, device=device))


class _PocketModel(comfy.model_base.BaseModel):
    def __init__(self, model_config, model_type, device=None):
        super().__init__(model_config, model_type, device=device, unet_model=PocketUNet)

    def encode_adm(self, **conditioning) -> Tensor:
        pooled = conditioning.get("pooled_output")
        if pooled is None:
            raise ValueError("The pocket model needs the pooled text: connect a CLIP Text Encode node's output.")
        return pooled


class _PocketLatent(comfy.latent_formats.LatentFormat):
    scale_factor = 1.0

    def __init__(self, colours: Tensor | None = None):
        """Set the latent format. colours: linear map from latents to RGB in -1..1, [C + 1, 3], bias last."""
        colours = torch.zeros(UNetShape.latent_channels + 1, 3) if colours is None else colours
        *self.latent_rgb_factors, self.latent_rgb_factors_bias = colours.tolist()
        self.latent_channels = len(self.latent_rgb_factors)


class _PocketTokenizer:
    """Tokenizer from words to token ids, with ComfyUI's (word:1.2) weights."""

    def __init__(self, embedding_directory=None, tokenizer_data=None):
        self.stored = (tokenizer_data or {})["vocabulary"]
        self.vocabulary = Vocabulary.from_tensor(self.stored)

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **_):
        complaint = self.vocabulary.complaint(text)
        if complaint:
            logging.warning(f"Emu Video: {complaint}")
        show_complaint(complaint)
        parts = comfy.sd1_clip.token_weights(comfy.sd1_clip.escape_important(text), 1.0)
        weighted = [
            (token, weight)
            for part, weight in parts
            for token in self.vocabulary.encode(comfy.sd1_clip.unescape_important(part))
        ]
        ids = pad_tokens([token for token, _ in weighted])
        weights = dict(enumerate((weight for _, weight in weighted), start=1))
        tokens = [
            (token, weights.get(i, 1.0) if token not in (START, END, PAD) else 1.0) for i, token in enumerate(ids)
        ]
        if return_word_ids:
            tokens = [(*pair, i) for i, pair in enumerate(tokens)]
        return {"pocket": [tokens]}

    def untokenize(self, token_weight_pairs):
        return [(pair, self.vocabulary.words[pair[0]]) for pair in token_weight_pairs]

    def state_dict(self) -> dict[str, Tensor]:
        return {"vocabulary": self.stored}


class _PocketTextModel(nn.Module, comfy.sd1_clip.ClipTokenWeightEncoder):
    """The pocket's TextEncoder with the interface of ComfyUI's text encoders."""

    special_tokens: ClassVar = {"start": START, "end": END, "pad": PAD}

    def __init__(self, vocabulary_size: int, device="cpu", dtype=None, model_options=None):
        super().__init__()
        self.dtypes = {dtype or torch.float32}
        self.execution_device = None
        operations: Any = (model_options or {}).get("custom_operations") or comfy.ops.manual_cast
        self.transformer = TextEncoder(vocabulary_size, operations=operations, device=device, dtype=dtype)

    def set_clip_options(self, options):
        self.execution_device = options.get("execution_device", self.execution_device)

    def reset_clip_options(self):
        self.execution_device = None

    def encode_token_weights(self, token_weight_pairs):
        return super().encode_token_weights(token_weight_pairs["pocket"])

    def encode(self, tokens: list[list[int]]):
        device = self.execution_device or self.transformer.norm.weight.device
        return self.transformer(torch.tensor(tokens, device=device))

    def load_sd(self, sd):
        weights = {key: value for key, value in sd.items() if key != "vocabulary"}
        return self.load_state_dict(weights, strict=False, assign=getattr(self, "can_assign_sd", False))


class EmuVideoPocket(comfy.supported_models_base.BASE):
    """The pocket checkpoint. A signature tensor identifies it, so no other checkpoint is mistaken for it."""

    unet_config: ClassVar = {
        "context_dim": 128,
        "use_temporal_attention": False,
        "adm_in_channels": 256,
    }
    unet_extra_config: ClassVar = {"num_heads": -1, "num_head_channels": 32, "use_scale_shift_norm": True}
    latent_format = _PocketLatent
    sampling_settings: ClassVar = {"zsnr": True}
    memory_usage_factor = 0.5
    supported_inference_dtypes: ClassVar = [torch.float32]

    @classmethod
    def matches(cls, unet_config, state_dict=None, **_):
        """Look for the signature in all keys, because ComfyUI before 0.27 does not pass the UNet's prefix."""
        return super().matches(unet_config) and any(key.endswith(SIGNATURE) for key in state_dict or ())

    def get_model(self, state_dict, prefix="", device=None):
        self.latent_format = _PocketLatent(state_dict[prefix + SIGNATURE])
        return _PocketModel(self, self.model_type(state_dict, prefix), device=device)

    def model_type(self, state_dict, prefix=""):
        return comfy.model_base.ModelType.V_PREDICTION

    def process_unet_state_dict(self, state_dict):
        state_dict.pop(SIGNATURE, None)
        return state_dict

    def process_unet_state_dict_for_saving(self, state_dict):
        colours = (*(self.latent_format.latent_rgb_factors or ()), self.latent_format.latent_rgb_factors_bias)
        return super().process_unet_state_dict_for_saving({**state_dict, SIGNATURE: torch.tensor(colours)})

    def process_vae_state_dict(self, state_dict):
        return widen(state_dict)

    def clip_target(self, state_dict=None):
        state_dict = state_dict or {}
        size = state_dict["cond_stage_model.transformer.tokens.weight"].shape[0]
        return comfy.supported_models_base.ClipTarget(
            _PocketTokenizer, lambda **options: _PocketTextModel(size, **options)
        )


def register() -> None:
    """Add the pocket to the end of ComfyUI's list of models."""
    if not any(m.__name__ == EmuVideoPocket.__name__ for m in comfy.supported_models.models):
        comfy.supported_models.models.append(EmuVideoPocket)
