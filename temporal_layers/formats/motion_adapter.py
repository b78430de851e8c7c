"""MotionAdapter of diffusers: AnimateDiff's versions and PIA in diffusers' naming, a file or a folder with config.json.

diffusers always averages the norms of motion modules over the clip and those of residual blocks over a frame. This pack
uses norms as the weights were trained. Options(transformer_norm="clip", resnet_norm="frame") gives diffusers' result.
"""

from __future__ import annotations

from ..reader import Weights
from . import animatediff, pia
from .conversion import Converted, Options
from .motion_module_family import ADAPTER, MotionModules

NAME = "MotionAdapter"


def recognises(weights: Weights) -> bool:
    return weights.has(r"down_blocks\.\d+\.motion_modules\.\d+\.transformer_blocks\.0\.attn1\.")


def convert(weights: Weights, options: Options) -> Converted:
    modules = MotionModules(weights, ADAPTER, options, heads=weights.config.get("motion_num_attention_heads", 8))
    modules.positions = modules.positions or weights.config.get("motion_max_seq_length", 0)
    if pia.reads_conditioning(weights):
        return pia.from_modules(modules)
    return animatediff.from_modules(modules)
