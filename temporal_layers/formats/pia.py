"""PIA (Zhang et al. 2023): AnimateDiff's modules, and five conditioning channels: affinity, then the image's latents.

The affinity of a frame is its similarity to the image, 0..1 (diffusion.affinity). Every frame has the image's latents,
in the scale of the noisy latents. The norms of the residual blocks were trained over whole clips.
"""

from __future__ import annotations

from ..backbones.unet import LATENT_CHANNELS
from ..info import AFFINITY
from ..reader import Weights
from . import animatediff
from .conversion import Converted, Options
from .motion_module_family import OFFICIAL, MotionModules

NAME = "PIA"


def recognises(weights: Weights) -> bool:
    return animatediff.recognises(weights) and reads_conditioning(weights) and not animatediff.has_middle(weights)


def reads_conditioning(weights: Weights) -> bool:
    conv_in = weights.tensors.get("conv_in.weight")
    channels = 2 * LATENT_CHANNELS + 1
    return conv_in is not None and conv_in.ndim == 4 and conv_in.shape[1] == channels


def convert(weights: Weights, options: Options) -> Converted:
    return from_modules(MotionModules(weights, OFFICIAL, options))


def from_modules(modules: MotionModules) -> Converted:
    modules.take_modules(positions=32, resnet_norm="clip")
    modules.take_conditioning(LATENT_CHANNELS + 1)
    return modules.result(family=NAME, conditioning=AFFINITY)
