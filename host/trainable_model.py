"""A MODEL as a function that gradients flow through: a deep copy of the checkpoint with temporal layers attached.

The copy is necessary because ComfyUI's nodes load weights as inference tensors, which have no gradients. The session's
MODEL is not changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.conds
import comfy.ldm.modules.attention
import comfy.model_management
import comfy.model_patcher
import torch
import torch.utils.checkpoint
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, ResBlock, Upsample
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..temporal_layers.attach import attach
from ..temporal_layers.layers import TemporalLayers
from ..training.clips import Conds, stacked_text

FLOATS = (torch.float16, torch.bfloat16, torch.float32)
RATIO = 8  # pixels to a latent, as in comfy.samplers.encode_model_conds
RECOMPUTED = (ResBlock, SpatialTransformer, Downsample, Upsample)
"""Blocks whose activations gradient checkpointing recomputes. The whole UNet as one block would save no memory."""


class NetworkOutput(nn.Module):
    """A model_sampling that passes input, timesteps and output of the network unchanged.

    The loss is then on the network's prediction, eps or v, independent of ComfyUI's scale.
    """

    def calculate_input(self, sigma: Tensor, noise: Tensor) -> Tensor:
        return noise

    def calculate_denoised(self, sigma: Tensor, model_output: Tensor, model_input: Tensor) -> Tensor:
        return model_output

    def timestep(self, sigma: Tensor) -> Tensor:
        return sigma


class TrainableModel:
    """A copy of a MODEL with temporal layers attached, as the trainer's Network.

    For its arguments see `training.trainer.Network`.
    """

    def __init__(
        self,
        patcher: comfy.model_patcher.ModelPatcher,
        layers: TemporalLayers,
        *,
        dtype: torch.dtype,
        checkpointing: bool,
        compiled: bool,
    ):
        self.patcher, self.layers = patcher, layers
        self.base: Any = patcher.model
        self.unet: Any = self.base.diffusion_model
        self.device = comfy.model_management.get_torch_device()
        self.unet.to(self.device, dtype).requires_grad_(False).eval()
        self.unet.dtype, self.base.manual_cast_dtype = dtype, None
        self.base.model_sampling = NetworkOutput()
        self.base.current_patcher = patcher
        layers.to(self.device)
        self._apply: Callable[..., Tensor] = self.base.apply_model
        if compiled:
            self._apply = _compiled(self._apply)
        attach(self.unet, layers, owner=layers)
        if checkpointing:
            for module in self.unet.modules():
                if isinstance(module, RECOMPUTED):
                    module.__dict__["forward"] = _Recomputed(module.forward)

    def __call__(self, noisy: Tensor, t: Tensor, conditioning: Tensor | None, texts: list[Conds]) -> Tensor:
        clips, frames = noisy.shape[:2]
        self.layers.frames = frames
        out = self._apply(
            noisy.flatten(0, 1),
            t.repeat_interleave(frames).float(),
            c_concat=None if conditioning is None else conditioning.flatten(0, 1),
            transformer_options={"cond_or_uncond": [0], "optimized_attention_override": attention},
            **self._model_conds(stacked_text(texts), noisy[:, :1], frames),
        )
        return out.unflatten(0, (clips, frames))

    def _model_conds(self, text: Conds, latents: Tensor, frames: int) -> dict[str, Tensor]:
        """Return the model's conditioning as in sampling, [clips * frames, ...]. latents: [clips, 1, C, h, w]."""
        each = [
            self._conds_of_one({name: value[i : i + 1] for name, value in text.items()}, latent)
            for i, latent in enumerate(latents)
        ]
        return {name: torch.cat([conds[name] for conds in each]).repeat_interleave(frames, 0) for name in each[0]}

    def _conds_of_one(self, text: Conds, latent: Tensor) -> dict[str, Tensor]:
        text = dict(text)
        height, width = (side * RATIO for side in latent.shape[-2:])
        size = {"width": width, "height": height}
        if "original_size" in text:  # as SDXL was trained: the size of the video before it was resized and cropped
            size |= dict(zip(("width", "height"), text.pop("original_size")[0].tolist(), strict=True))
            size |= dict(zip(("crop_w", "crop_h"), text.pop("crop")[0].tolist(), strict=True))
            size |= {"target_width": width, "target_height": height}
        conds = self.base.extra_conds(
            **{name: value.to(self.device) for name, value in text.items()},
            **size,
            noise=latent,
            latent_image=torch.zeros_like(latent),
            device=self.device,
            prompt_type="positive",
        )
        conds.pop("c_concat", None)
        return {
            name: cond.process_cond(batch_size=1, area=None).cond
            for name, cond in conds.items()
            if isinstance(cond, comfy.conds.CONDRegular)
        }


def _compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the function under torch.compile, whose errors at the first call become a ValueError with advice."""
    from torch._dynamo.exc import TorchDynamoException  # slow to import, and only needed here

    compiled = torch.compile(function)

    def call(*args: Any, **kwargs: Any) -> Tensor:
        try:
            return compiled(*args, **kwargs)
        except TorchDynamoException as error:
            reason = str(getattr(error, "inner_exception", error)).strip().split("\n")[0]
            raise ValueError(
                f"torch.compile failed ({reason}). Set compile to false, which trains the same layers more slowly, or "
                "install what it needs: a C++ compiler on a CPU, Triton on a GPU."
            ) from error

    return call


class _Recomputed:
    """A `forward` whose activations are recomputed in the backward pass."""

    def __init__(self, forward: Callable[..., Any]):
        self.forward = forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.forward(*args, **kwargs)
        return torch.utils.checkpoint.checkpoint(self.forward, *args, use_reentrant=False, **kwargs)


def attention(_: Callable, q: Tensor, k: Tensor, v: Tensor, heads: int, *args: Any, **kwargs: Any) -> Tensor:
    """Return one attention function for the whole run.

    ComfyUI's choice depends on free memory, so that a recomputed forward may differ from the first. On CPUs the plain
    one is several times faster in the backward pass than the fused one.
    """
    kwargs.pop("transformer_options", None)
    if q.device.type != "cpu":
        return comfy.ldm.modules.attention.attention_pytorch(q, k, v, heads, *args, **kwargs)
    with sdpa_kernel(SDPBackend.MATH):
        return comfy.ldm.modules.attention.attention_pytorch(q, k, v, heads, *args, **kwargs)


@contextmanager
def trainable(
    model: comfy.model_patcher.ModelPatcher,
    layers: TemporalLayers,
    *,
    dtype: torch.dtype = torch.float32,
    checkpointing: bool = True,
    compiled: bool = False,
) -> Iterator[TrainableModel]:
    """Yield a trainable copy of `model` with `layers` attached, outside of inference mode; free its memory at the end.

    Raises:
        ValueError: ComfyUI cannot copy the MODEL, or its weights are quantised.
    """
    with torch.inference_mode(False):
        patcher = deep_copy(model)
        # Training needs more memory than this model, so all others leave the GPU, as in ComfyUI's own trainer.
        comfy.model_management.load_models_gpu([patcher], memory_required=10**20, force_full_load=True)
        was_training = comfy.model_management.in_training
        comfy.model_management.in_training = True
        try:
            yield TrainableModel(patcher, layers, dtype=dtype, checkpointing=checkpointing, compiled=compiled)
        finally:
            comfy.model_management.in_training = was_training
            comfy.model_management.current_loaded_models[:] = [
                loaded for loaded in comfy.model_management.current_loaded_models if loaded.model is not patcher
            ]
            patcher.model.to("meta")
            del patcher
            comfy.model_management.soft_empty_cache()


def deep_copy(model: comfy.model_patcher.ModelPatcher) -> comfy.model_patcher.ModelPatcher:
    """Return a MODEL with separate weights, loaded again from the checkpoint's file, with the same patches."""
    if getattr(model, "cached_patcher_init", None) is None:
        raise ValueError(
            "This model cannot be copied for training, because ComfyUI does not know its file: load it with Load "
            "Checkpoint or Load Diffusion Model."
        )
    logging.info("Emu Video: loading a copy of the checkpoint for training.")
    with torch.no_grad():
        copy = model.clone(disable_dynamic=True, force_deepcopy=True)
    kept = {name: weight.dtype for name, weight in copy.model.diffusion_model.named_parameters()}
    wrong = next((name for name, dtype in kept.items() if dtype not in FLOATS), None)
    if wrong is not None:
        raise ValueError(
            f"This checkpoint is quantised ({wrong} is {kept[wrong]}), which cannot be trained on: use the fp16, bf16 "
            "or fp32 one."
        )
    return copy
