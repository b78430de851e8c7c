"""AnimateDiff v1, v2, v3 and SDXL beta (Guo et al. 2023), in the official naming.

The version is identified by the motion module in the middle block (v2), the length of the position table (24: v1) and
the number of levels (3: SDXL). Files trained with the official code have no position table; they get the length of
their version. Of a checkpoint of a whole UNet, as the official training saves it, only the motion modules are used.
"""

from __future__ import annotations

from ..noise import Discrete
from ..reader import Weights
from .conversion import Converted, Options
from .motion_module_family import LINEAR, OFFICIAL, MotionModules

NAME = "AnimateDiff"
SDXL = Discrete(end=0.020)


def recognises(weights: Weights) -> bool:
    return weights.has(r"down_blocks\.\d+\.motion_modules\.\d+\.temporal_transformer\.")


def has_middle(weights: Weights) -> bool:
    return weights.has(r"mid_block\.motion_modules\.")


def convert(weights: Weights, options: Options) -> Converted:
    return from_modules(MotionModules(weights, OFFICIAL, options))


def from_modules(modules: MotionModules) -> Converted:
    version = version_of(modules)
    modules.take_modules(positions=32, resnet_norm="clip" if version == "v1" else "frame")
    return modules.result(family=f"{NAME} {version}", noise=SDXL if modules.base == "sdxl" else LINEAR)


def version_of(modules: MotionModules) -> str:
    if modules.base == "sdxl":
        return "SDXL beta"
    if modules.middle:
        return "v2"
    return "v1" if modules.positions == 24 else "v3"
