"""HotshotXL (Natural Synthetics 2023): AnimateDiff's modules under other names, for SDXL, 8 frames.

The norms of the residual blocks and of the output see whole clips: their code runs the UNet on (c, t, h, w).
"""

from __future__ import annotations

from .conversion import Converted, Options
from .motion_modules import HOTSHOT, MotionModules
from .weights import Weights

NAME = "HotshotXL"
BETAS = {"schedule": "scaled_linear", "start": 0.00085, "end": 0.012, "steps": 1000}


def recognises(weights: Weights) -> bool:
    return weights.has(r"down_blocks\.\d+\.temporal_attentions\.\d+\.")


def convert(weights: Weights, options: Options) -> Converted:
    modules = MotionModules(weights, HOTSHOT, options)
    modules.convert(positions=24, resnet_norm="clip")
    return modules.finish(family=NAME, frames=8, betas=BETAS)
