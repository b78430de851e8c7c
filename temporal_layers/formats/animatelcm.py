"""AnimateLCM, text to video (Wang et al. 2024): AnimateDiff's modules with 64 positions, for few steps with `lcm`.

Its file has no position table, and AnimateDiff files trained with the official code have none either. So a file is of
this family only if the user or the file's metadata says so.
"""

from __future__ import annotations

from ..modules.frames import ANIMATELCM_POSITIONS
from ..reader import Weights
from . import animatediff, motion_adapter, pia
from .conversion import Converted, Options
from .motion_module_family import ADAPTER, OFFICIAL, MotionModules

NAME = "AnimateLCM"


def recognises(weights: Weights) -> bool:
    has_modules = animatediff.recognises(weights) or motion_adapter.recognises(weights)
    fits = has_modules and animatediff.has_middle(weights) and not pia.reads_conditioning(weights)
    return fits and any("animatelcm" in text.lower() for text in weights.metadata.values())


def convert(weights: Weights, options: Options) -> Converted:
    modules = MotionModules(weights, ADAPTER if motion_adapter.recognises(weights) else OFFICIAL, options)
    if pia.reads_conditioning(weights) or modules.levels != 4 or not modules.middle:
        raise ValueError(
            f"{weights.path} is not {NAME}, which has motion modules in all levels and the middle block of SD 1.5 and "
            "no conditioning channels; let the family be identified automatically."
        )
    modules.take_modules(positions=ANIMATELCM_POSITIONS, resnet_norm="frame")
    return modules.result(family=NAME)
