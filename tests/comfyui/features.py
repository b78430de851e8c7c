"""What users put between a checkpoint and the sampler, by ComfyUI's own nodes.

Each function takes a Stock and gives what its nodes do to MODEL, positive and negative.
"""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import comfy.cldm.cldm
import comfy.controlnet
import comfy.gligen
import comfy.model_patcher
import folder_paths
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy_extras.nodes_hooks import ConditioningSetProperties, CreateHookLora
from comfy_extras.nodes_torch_compile import TorchCompileModel
from emu_video.temporal_layers.backbones.unet import is_spatial_transformer
from emu_video.tests.comfyui import tiny
from emu_video.tests.comfyui.stock import FRAMES, LATENT, Setup, Stock, on_meta, random_weights
from safetensors.torch import save_file
from torch import Tensor

nodes: Any = importlib.import_module("nodes")  # ComfyUI's, not the pack's

PIXELS = (8 * LATENT[1], 8 * LATENT[2])
GLIGEN_WIDTH = 768  # of its text


def lora_in_folder(stock: Stock) -> str:
    (folder,), _ = folder_paths.folder_names_and_paths["loras"]
    name = f"{stock.base}.safetensors"
    save_file(tiny.lora_file(stock.model), f"{folder}/{name}")
    return name


def lora(stock: Stock) -> Setup:
    name = lora_in_folder(stock)
    return lambda model, positive, negative: (
        nodes.LoraLoaderModelOnly().load_lora_model_only(model, name, 0.7)[0], positive, negative
    )  # fmt: skip


def lora_hook(stock: Stock) -> Setup:
    """A LoRA for one prompt alone: ComfyUI changes the weights between the calls for the two prompts."""
    (hooks,) = CreateHookLora().create_hook(lora_in_folder(stock), 0.7, 0.0)
    return lambda model, positive, negative: (
        model, ConditioningSetProperties().set_properties(positive, 1.0, "default", hooks=hooks)[0], negative
    )  # fmt: skip


def control_net(stock: Stock, hints: Tensor | None = None) -> Setup:
    """hints: IMAGE, one for each frame."""
    config = {key: value for key, value in stock.config.items() if key != "out_channels"} | {"hint_channels": 3}
    weights = random_weights(on_meta(comfy.cldm.cldm.ControlNet, config))
    net = comfy.controlnet.load_controlnet_state_dict(weights, model_options={"dtype": torch.float32})
    if hints is None:
        hints = torch.rand(FRAMES, *PIXELS, 3, generator=torch.Generator().manual_seed(4))
    return lambda model, positive, negative: (
        model, *nodes.ControlNetApplyAdvanced().apply_controlnet(positive, negative, net, hints, 0.8, 0.0, 1.0)
    )  # fmt: skip


class ImagePrompt:
    """IP-Adapter's cross-attention (Ye et al. 2023, section 3.2): to the text's answer comes that to an image's tokens.

    One image for each frame; the unconditional half of a batch has none.
    """

    TOKENS, WIDTH = 4, 16

    def __init__(self) -> None:
        self.images = torch.randn(FRAMES, self.TOKENS, self.WIDTH, generator=torch.Generator().manual_seed(6))

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any]) -> Tensor:
        heads = extra_options["n_heads"]
        halves = [self.images * (half == 0) for half in extra_options["cond_or_uncond"]]
        generator = torch.Generator().manual_seed(7)
        ip_k, ip_v = (torch.cat(halves) @ torch.randn(self.WIDTH, q.shape[-1], generator=generator) for _ in range(2))
        return optimized_attention(q, k, v, heads) + optimized_attention(q, ip_k, ip_v, heads)


def image_prompt(stock: Stock) -> Setup:
    def apply(model, positive, negative):
        patched = model.clone()
        for block, number in (("input", 4), ("middle", 0), ("output", 3), ("output", 5)):
            patched.set_model_attn2_replace(ImagePrompt(), block, number)
        return patched, positive, negative

    return apply


def gligen(stock: Stock) -> Setup:
    """A text with a box to stand in."""
    with torch.device("meta"):
        parts: dict[str, torch.nn.Module] = {"position_net": comfy.gligen.PositionNet(GLIGEN_WIDTH, GLIGEN_WIDTH)}
        for name, module in stock.model.model.diffusion_model.named_modules():
            if is_spatial_transformer(module):
                width = module.in_channels
                fuser = comfy.gligen.GatedSelfAttentionDense(width, GLIGEN_WIDTH, 8, width // 8)
                parts[f"{name}.transformer_blocks.0.fuser"] = fuser
    weights = {f"{name}.{key}": weight for name, part in parts.items() for key, weight in random_weights(part).items()}
    cpu = torch.device("cpu")
    model = comfy.gligen.load_gligen(weights)
    patcher = comfy.model_patcher.CoreModelPatcher(model, cpu, cpu)
    pooled = torch.randn(1, GLIGEN_WIDTH, generator=torch.Generator().manual_seed(8))
    clip = SimpleNamespace(tokenize=lambda text: text, encode_from_tokens=lambda *_, **__: (None, pooled))
    return lambda model, positive, negative: (
        model, nodes.GLIGENTextBoxApply().append(positive, clip, patcher, "a box", 32, 32, 0, 16)[0], negative
    )  # fmt: skip


def regions(stock: Stock) -> Setup:
    """Two prompts, each with its part of every frame; the border moves."""
    mask = torch.zeros(FRAMES, *PIXELS)
    for frame in range(FRAMES):
        mask[frame, :, : 16 * (frame + 2)] = 1.0

    def apply(model, positive, negative):
        other = [[stock.prompt(9)[0][0], options] for _, options in positive]
        (left,) = nodes.ConditioningSetMask().append(positive, mask, "default", 1.0)
        (right,) = nodes.ConditioningSetMask().append(other, 1 - mask, "default", 0.8)
        return model, left + right, negative

    return apply


def context_windows(stock: Stock) -> Setup:
    return lambda model, positive, negative: (tiny.in_windows(model, 3, 1), positive, negative)


def torch_compile(stock: Stock) -> Setup:
    """Run eagerly, so that no C++ compiler is needed."""
    return lambda model, positive, negative: (
        TorchCompileModel.execute(model, "eager").result[0], positive, negative
    )  # fmt: skip


FEATURES = (lora, lora_hook, control_net, image_prompt, gligen, regions, context_windows)
