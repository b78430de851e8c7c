"""SD1.5, SD2.1 and SDXL with random weights through ComfyUI's own checkpoint loader, narrow or at their full size.

Narrow models have the same blocks with fewer channels, and SDXL fewer transformer blocks. ComfyUI knows a checkpoint
by its widths, so it is told these for as long as `Stock.loaded` lasts; the loader is otherwise the one of every graph.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.model_management
import comfy.ops
import comfy.samplers
import comfy.sd
import comfy.supported_models
import folder_paths
import pytest
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy_extras.nodes_custom_sampler import SamplerCustomAdvanced
from emu_video.benchmarks import unets
from emu_video.host.injection import inject, layers_info
from emu_video.host.layer_settings import with_strength
from emu_video.nodes.sampling import EmuVideoGuider, EmuVideoSampler
from emu_video.temporal_layers.backbones import unet as unet_backbone
from emu_video.temporal_layers.formats import convert
from emu_video.temporal_layers.reader import Weights
from emu_video.tests.comfyui import tiny
from emu_video.tests.temporal_layers.formats import public
from torch import Tensor

FRAMES = 4
CFG = 3.0  # of tiny.sample
# Two pixels at SD1.5's deepest level: at a single one torch cannot tell the memory layouts apart, and convolutions
# round otherwise in each.
LATENT = (4, 8, 16)
SIZE_EMBEDDINGS = 6 * 256  # of SDXL, beside the pooled text
NARROW = {"model_channels": 32, "context_dim": 24}
SHALLOW = {
    "transformer_depth": [0, 0, 1, 1, 2, 2],
    "transformer_depth_middle": 2,
    "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2],
    "adm_in_channels": 16 + SIZE_EMBEDDINGS,
}
HEADS = {"num_heads": -1, "num_head_channels": 32}
# base, ComfyUI's class of it, its UNet, changes that make it narrow, what a narrow class says of heads
BASES: dict[str, tuple[type, dict, dict, dict]] = {
    "sd15": (comfy.supported_models.SD15, unets.SD15, NARROW, {"num_heads": 8, "num_head_channels": -1}),
    "sd21": (comfy.supported_models.SD20, unets.SD21, NARROW, HEADS),
    "sdxl": (comfy.supported_models.SDXL, unets.SDXL, NARROW | SHALLOW, HEADS),
}
V_PREDICTION = ("v_pred", "ztsnr")  # keys of SDXL checkpoints

Conds = list[list[Any]]
Setup = Callable[[Any, Conds, Conds], tuple[Any, Conds, Conds]]
"""(MODEL, positive, negative) of a graph -> the same behind the nodes of a feature."""


def as_it_is(model: Any, positive: Conds, negative: Conds) -> tuple[Any, Conds, Conds]:
    return model, positive, negative


@functools.cache
def noise(scale: float) -> Tensor:
    return scale * torch.randn(2**18, generator=torch.Generator().manual_seed(0))


def random_weights(module: torch.nn.Module) -> dict[str, Tensor]:
    """A state dict for a module on the meta device. Its matrices are views of shared noise and take no memory."""
    weights = {}
    for index, (key, like) in enumerate(module.state_dict().items()):
        if like.ndim < 2:
            ones = 1.0 if key.endswith("weight") or like.ndim == 0 else 0.0
            weights[key] = ones + noise(0.05)[index : index + like.numel()].reshape(like.shape)
        else:
            strides = (7, *like.stride()[1:])  # each row begins a little further on
            weights[key] = noise(like[0].numel() ** -0.5).as_strided(like.shape, strides, index)
    return weights


def on_meta(kind: type, config: dict) -> torch.nn.Module:
    return kind(**config, device="meta", operations=comfy.ops.disable_weight_init)


@dataclasses.dataclass
class Stock:
    """One checkpoint, the hash of its weights when loaded, and MODELs made of it.

    plain: without temporal layers, at the noise schedule of those that have them.
    fresh, trained: with temporal layers that change nothing, and with random ones; both know the first frame.
    """

    base: str
    config: dict
    weights: str
    model: Any
    plain: Any
    fresh: Any
    trained: Any

    @classmethod
    @contextmanager
    def loaded(cls, base: str, narrow: bool, marks: tuple[str, ...], file: str, loras: Path) -> Iterator[Stock]:
        """marks: keys beside the weights, by which ComfyUI knows the prediction. file: a public one of temporal layers,
        "" for Emu Video's own. loras: becomes models/loras."""
        kind, config, changes, heads = BASES[base]
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(loras)], {".safetensors"}))
            if narrow:
                config = config | changes
                known = {key: config.get(key, value) for key, value in kind.unet_config.items()}
                narrow_kind = type(
                    f"Narrow{kind.__name__}", (kind,), {"unet_config": known, "unet_extra_config": heads}
                )
                patch.setattr(comfy.supported_models, "models", [*comfy.supported_models.models, narrow_kind])
                config = config | heads
                shape = unet_backbone.BASES[base]._replace(**NARROW)
                blocks = sum(map(unet_backbone.is_transformer_block, on_meta(UNetModel, config).modules()))
                patch.setitem(unet_backbone.BASES, base, shape._replace(blocks=blocks))
            weights = random_weights(on_meta(UNetModel, config))
            checkpoint = {f"model.diffusion_model.{key}": weight for key, weight in weights.items()}
            checkpoint |= {mark: torch.zeros(()) for mark in marks}

            def load(disable_dynamic: bool = False) -> Any:
                options: dict[str, Any] = {"output_vae": False, "output_clip": False}
                loaded = comfy.sd.load_state_dict_guess_config(
                    dict(checkpoint), model_options={"dtype": torch.float32}, disable_dynamic=disable_dynamic, **options
                )
                assert loaded is not None
                return loaded[0]

            model = load()
            model.cached_patcher_init = (load, ())  # as if the checkpoint were a file, for copies of the MODEL
            models = (
                with_public_layers(model, file) if file else with_layers(model, "v" if marks else "eps", bool(marks))
            )
            yield cls(base, config, tiny.weights_hash(model), model, *models)
        comfy.model_management.unload_all_models()

    def prompt(self, seed: int, **options: Any) -> Conds:
        """A CONDITIONING of random text."""
        generator = torch.Generator().manual_seed(seed)
        text = torch.randn(1, 7, self.config["context_dim"], generator=generator)
        pooled = torch.full((1, self.config.get("adm_in_channels", SIZE_EMBEDDINGS + 1) - SIZE_EMBEDDINGS), 0.1 * seed)
        return [[text, {"pooled_output": pooled, **options}]]

    def sample(self, model: Any, feature: Setup = as_it_is, changed_frame: int | None = None) -> Tensor:
        """[FRAMES, C, h, w] from stock nodes. changed_frame: one whose initial noise is another."""
        model, positive, negative = feature(model, *self.conditionings(model)[:2])
        return tiny.sample(model, noise=self.start(changed_frame), steps=1, positive=positive, negative=negative)

    def sample_three(self, model: Any, feature: Setup = as_it_is, changed_frame: int | None = None) -> Tensor:
        """Return the same from Emu Video Guider and SamplerCustomAdvanced, with the guidance of `sample`."""
        positive, image_only, negative = self.conditionings(model)
        model, positive, negative = feature(model, positive, negative)
        weights = {"text_guidance": CFG, "image_guidance": CFG, "guidance_rescale": 0.0}
        (guider,) = EmuVideoGuider.execute(model, positive, image_only, negative, **weights).args
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 1)
        noise = SimpleNamespace(seed=3, generate_noise=lambda latent: self.start(changed_frame))
        latent = {"samples": torch.zeros(FRAMES, *LATENT)}
        euler = comfy.samplers.sampler_object("euler")
        return SamplerCustomAdvanced.execute(noise, guider, euler, sigmas, latent).args[0]["samples"]

    def sample_whole(self, model: Any, feature: Setup = as_it_is) -> Tensor:
        """Return [FRAMES, C, h, w] from Emu Video Sampler."""
        positive, image_only, negative = self.conditionings(model)
        model, positive, negative = feature(model, positive, negative)
        latent = {"samples": torch.zeros(FRAMES, *LATENT)}
        conds = positive, image_only, negative
        return EmuVideoSampler.execute(model, *conds, latent, 3, 1, CFG, CFG, 0.0, 0.0).args[0]["samples"]

    def conditionings(self, model: Any) -> tuple[Conds, Conds, Conds]:
        """Return (positive, negative, negative), all with the first frame where the model's layers read one."""
        info = layers_info(model)
        reads_known = info is not None and info.conditioning_channels > 0
        known = {"noise_concat": tiny.first_frame_known(FRAMES, latent=LATENT)} if reads_known else {}
        return self.prompt(1, **known), self.prompt(2, **known), self.prompt(2, **known)

    def start(self, changed_frame: int | None = None) -> Tensor:
        """Return the initial noise. changed_frame: one whose noise is another."""
        start = torch.randn((FRAMES, *LATENT), generator=torch.Generator().manual_seed(3))
        if changed_frame is not None:
            start[changed_frame] += 1
        return start

    @functools.cached_property
    def without_feature(self) -> tuple[Tensor, Tensor]:
        """Frames of `plain`, and of `trained`."""
        return self.sample(self.plain), self.sample(self.trained)

    def is_as_loaded(self) -> bool:
        comfy.model_management.unload_all_models()
        return tiny.weights_hash(self.model) == self.weights


def with_layers(model: Any, prediction: str, zero_terminal_snr: bool) -> tuple[Any, Any, Any]:
    """(plain, fresh, trained), with Emu Video's own layers."""

    def injected(fresh: bool) -> Any:
        state_dict, info = tiny.temporal(model, fresh=fresh)
        noise = dataclasses.replace(info.noise, prediction=prediction, zero_terminal_snr=zero_terminal_snr)
        info = dataclasses.replace(info, noise=noise)
        return inject(model, state_dict, info, "layers.safetensors")

    fresh, trained = injected(True), injected(False)
    return with_schedule_of(fresh, model), fresh, trained


PUBLIC = {"AnimateDiff v1": lambda widths: public.animatediff(widths, **public.V1), "FancyVideo": public.fancyvideo}


def with_public_layers(model: Any, name: str) -> tuple[Any, Any, Any]:
    """The same with a public file; fresh: at strength 0, and with zeros where it reads images and numbers."""
    unet = model.model.diffusion_model
    file = PUBLIC[name](tuple(unet.model_channels * multiple for multiple in unet.channel_mult))
    silent = {key: tensor if "motion_modules" in key else torch.zeros_like(tensor) for key, tensor in file.items()}
    trained, fresh = (inject(model, *convert(Weights(name, weights)), name) for weights in (file, silent))
    fresh = with_strength(fresh, 0.0, 1.0)
    return with_schedule_of(fresh, model), fresh, trained


def with_schedule_of(video: Any, model: Any) -> Any:
    plain = model.clone()
    plain.add_object_patch("model_sampling", video.get_model_object("model_sampling"))
    return plain
