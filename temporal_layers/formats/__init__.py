"""Loaders of public files of temporal layers. They convert a file to the pack's own format: state dict and LayersInfo.

Each format is a module with `NAME`, `recognises(weights)` and `convert(weights, options)`. `recognises` reads keys and
shapes (AnimateLCM: metadata). `convert` states base, anchors, modules, norms, positions, conditioning channels and
their order, prediction, betas and frames.
"""

from __future__ import annotations

import os

from ..files import is_own, own_layers
from ..reader import Weights, read
from ..sentences import short
from . import animatediff, animatelcm, fancyvideo, hotshotxl, modelscope, motion_adapter, pia, refused
from .conversion import AS_TRAINED, Converted, Options

# In the order in which a file is compared with them: specific formats before general ones.
FORMATS = (fancyvideo, pia, animatelcm, motion_adapter, hotshotxl, animatediff, modelscope)
# Families that a user can select for files that cannot be identified automatically: {name: format}.
CHOICES = {format.NAME: format for format in (animatelcm,)}


def load(path: str | os.PathLike, options: Options = AS_TRAINED) -> Converted:
    """Return the layers of a file of temporal layers, own or public, or of a folder saved by diffusers.

    Raises ValueError for a file that is damaged, incomplete or of an unknown format.
    """
    weights = read(path, keep_prefixes=is_own)
    if is_own(weights.metadata):
        if options != AS_TRAINED:
            raise ValueError(
                f"{path} is in Emu Video's own format, which states family and norms; leave these settings at their "
                "defaults."
            )
        return own_layers(weights)
    return convert(weights, options)


def convert(weights: Weights, options: Options = AS_TRAINED) -> Converted:
    """Return the layers of weights in a public format. Raises ValueError, see `load`."""
    refused.check(weights)
    if options.family:
        if options.family not in CHOICES:
            raise ValueError(f'The family "{options.family}" cannot be selected; use one of {", ".join(CHOICES)}.')
        if not (animatediff.recognises(weights) or motion_adapter.recognises(weights)):
            raise ValueError(
                f"{weights.path} has no motion modules, so it is not {options.family}; let the family be identified "
                "automatically."
            )
        return CHOICES[options.family].convert(weights, options)
    for format in FORMATS:
        if format.recognises(weights):
            return format.convert(weights, options)
    keys = ", ".join(short(key) for key in sorted(weights.tensors)[:3]) or "none"
    raise ValueError(
        f"{weights.path} is not in a known format of temporal layers (its first keys: {keys}); choose a file of "
        f"{', '.join(format.NAME for format in FORMATS)}, or one saved by Emu Video."
    )
