"""HotshotXL (Natural Synthetics 2023): AnimateDiff's modules under other names, for SDXL, 8 frames.

The group norms of the residual blocks and of the output average over whole clips, because the authors' UNet runs on
(c, t, h, w).
"""

from __future__ import annotations

from ..noise import Discrete
from ..reader import Weights
from .conversion import Converted, Options
from .motion_module_family import HOTSHOT, MotionModules

NAME = "HotshotXL"


def recognises(weights: Weights) -> bool:
    return weights.has(r"down_blocks\.\d+\.temporal_attentions\.\d+\.")


def convert(weights: Weights, options: Options) -> Converted:
    modules = MotionModules(weights, HOTSHOT, options)
    modules.take_modules(positions=24, resnet_norm="clip")
    return modules.result(family=NAME, frames=8, noise=Discrete())
