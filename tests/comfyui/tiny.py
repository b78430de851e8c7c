"""A small checkpoint with random weights, built by ComfyUI's own classes, and short ways to sample it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import comfy.latent_formats
import comfy.lora
import comfy.model_patcher
import comfy.sample
import comfy.supported_models_base
import torch
from comfy.model_base import ModelType
from comfy_extras.nodes_context_windows import ContextWindowsManualNode
from emu_video.diffusion.known_frames import concat_conditioning, place
from emu_video.host.injection import inject
from emu_video.host.pocket import UNET_CONFIG
from emu_video.nodes.sampling import EmuVideoSampler
from emu_video.temporal_layers.backbones import backbone_of, find_anchors, identify_base
from emu_video.temporal_layers.info import LayersInfo
from emu_video.temporal_layers.layers import TemporalLayers
from emu_video.temporal_layers.noise import Discrete

FRAMES = 4
CONTEXT = UNET_CONFIG["context_dim"]
LATENT = (4, 8, 8)


class TinyConfig(comfy.supported_models_base.BASE):
    """The shape of the pocket model's UNet."""

    latent_format = comfy.latent_formats.SD15
    memory_usage_factor = 0.2
    supported_inference_dtypes = [torch.float32]

    def model_type(self, state_dict, prefix=""):
        return ModelType.V_PREDICTION


# The pocket's, without its pooled text.
UNET = UNET_CONFIG | {
    "num_classes": None,
    "adm_in_channels": None,
    "use_scale_shift_norm": False,
    "dtype": torch.float32,
}


def checkpoint(seed: int = 0, **changes) -> comfy.model_patcher.ModelPatcher:
    """A MODEL as a checkpoint loader gives it. `changes` go to the UNet's configuration."""
    model = TinyConfig(UNET | changes).get_model({}, device=torch.device("cpu"))
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.diffusion_model.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
        weight = torch.randn(parameter.shape, generator=generator) * (0.1 if parameter.ndim == 1 else fan_in**-0.5)
        parameter.copy_(weight + (1.0 if parameter.ndim == 1 else 0.0))
    cpu = torch.device("cpu")
    patcher = comfy.model_patcher.CoreModelPatcher(model, cpu, cpu)
    patcher.cached_patcher_init = (lambda disable_dynamic=False: checkpoint(seed, **changes), ())
    return patcher


def temporal(
    model,
    seed: int = 1,
    conditioning_channels: int = LATENT[0] + 1,
    fresh: bool = False,
    role: str = "video",
    **entries,
):
    """(state_dict, info) of temporal layers for `model`: random ones that change its output, or fresh ones.

    entries: further ones of the info.
    """
    unet = model.model.diffusion_model
    anchors = find_anchors(unet)
    info = LayersInfo(
        base=identify_base(unet),
        role=role,
        anchors=anchors,
        frames=37 if role == "interpolation" else FRAMES,
        fps=8.0,
        conditioning_channels=conditioning_channels,
        noise=Discrete(prediction="v", zero_terminal_snr=True),
        **entries,
    )
    layers = TemporalLayers(anchors, conditioning_channels, backbone=backbone_of(info.base))
    state_dict = layers.fresh_state_dict()
    if not fresh:
        generator = torch.Generator().manual_seed(seed)
        for key, weight in state_dict.items():
            state_dict[key] = weight + 0.05 * torch.randn(weight.shape, generator=generator)
    return state_dict, info


def with_temporal_layers(model, frames: int = 0, **options):
    return inject(model, *temporal(model, **options), "layers.safetensors", frames)


def text(seed: int, length: int = 7, known_frames: torch.Tensor | None = None) -> list:
    """A CONDITIONING of random text and, where given, known frames and their mask, [frames, C + 1, h, w]."""
    context = torch.randn(1, length, CONTEXT, generator=torch.Generator().manual_seed(seed))
    return [[context, {} if known_frames is None else {"noise_concat": known_frames}]]


def first_frame_known(frames: int = FRAMES, seed: int = 5, latent: tuple[int, int, int] = LATENT) -> torch.Tensor:
    first = torch.randn((1, *latent), generator=torch.Generator().manual_seed(seed))
    return concat_conditioning(*place(first, [0], frames))


def sample(
    model,
    frames: int = FRAMES,
    seed: int = 3,
    steps: int = 2,
    cfg: float = 3.0,
    positive: list | None = None,
    negative: list | None = None,
    callback: Callable | None = None,
    noise: torch.Tensor | None = None,
) -> torch.Tensor:
    """Stock sampling with euler and the simple scheduler: latents [frames, C, h, w]."""
    if noise is None:
        noise = torch.randn((frames, *LATENT), generator=torch.Generator().manual_seed(seed))
    return comfy.sample.sample(
        model,
        noise,
        steps,
        cfg,
        "euler",
        "simple",
        positive or text(1),
        negative or text(2),
        torch.zeros_like(noise),
        callback=callback,
        disable_pbar=True,
        seed=seed,
    )


def emu_sample(
    model, conds, latent: dict, steps: int = 1, text_guidance: float = 1.0, image_guidance: float = 1.0
) -> torch.Tensor:
    """Emu Video Sampler: latents [frames, C, h, w]. conds: positive, image_only and negative."""
    positive, image_only, negative = conds
    (video,) = EmuVideoSampler.execute(
        model, positive, image_only, negative, latent, 0, steps, text_guidance, image_guidance, 0.0, 0.0
    ).args
    return video["samples"]


def in_windows(model, length: int = 4, overlap: int = 1, retain: str = "0", causal: bool = True):
    """The stock node Context Windows over the frames; retain: frames that every window is given."""
    return ContextWindowsManualNode.execute(
        model,
        context_length=length,
        context_overlap=overlap,
        context_schedule="standard_static",
        context_stride=1,
        closed_loop=False,
        fuse_method="pyramid",
        dim=0,
        freenoise=False,
        cond_retain_index_list=retain,
        latent_retain_index_list=retain,
        causal_window_fix=causal,
    ).result[0]


def weights_hash(model) -> str:
    """Hash of all spatial weights as they are right now, and of which modules carry a `forward` of their own."""
    unet = model.model.diffusion_model
    digest = hashlib.sha256()
    for key, weight in unet.state_dict().items():
        digest.update(key.encode())
        digest.update(weight.contiguous().view(torch.uint8).numpy().tobytes())
    digest.update(repr([name for name, module in unet.named_modules() if "forward" in vars(module)]).encode())
    return digest.hexdigest()


def lora_file(model, seed: int = 7, rank: int = 2) -> dict[str, torch.Tensor]:
    """A LoRA in a file's layout for some convolutions and projections, anchors among them, that every UNet has."""
    weights, generator = {}, torch.Generator().manual_seed(seed)
    for name in (
        "input_blocks.1.0.in_layers.2",
        "middle_block.1.proj_in",
        "output_blocks.3.0.out_layers.3",
    ):
        weight = model.model.diffusion_model.get_submodule(name).weight
        down = torch.randn((rank, *weight.shape[1:]), generator=generator) * 0.1
        up = torch.randn((weight.shape[0], rank, *(1,) * (weight.ndim - 2)), generator=generator)
        key = "lora_unet_" + name.replace(".", "_")
        weights |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
    return weights


def lora(model, seed: int = 7) -> dict:
    """The same LoRA as patches for `add_patches`."""
    keys = comfy.lora.model_lora_keys_unet(model.model, {})
    return comfy.lora.load_lora(lora_file(model, seed), keys)
