"""Public files of temporal layers, as (state dict, LayersInfo) of our own: what `load` gives can be saved and loaded.

A format is a module with `NAME`, `recognises(weights)`, from keys and shapes (AnimateLCM: metadata), and
`convert(weights, options)`. It states its anchors and modules, norms, positions, conditioning channels and their order,
prediction, betas, frames and base.
"""

from __future__ import annotations

import os

from ..files import is_own, own_layers
from ..reader import Weights, read
from . import animatediff, animatelcm, fancyvideo, hotshotxl, modelscope, motion_adapter, pia, refused
from .conversion import AS_TRAINED, Converted, Options

# In the order in which they are asked: the more particular before the more general.
FORMATS = (fancyvideo, pia, animatelcm, motion_adapter, hotshotxl, animatediff, modelscope)
# Families that a user can select for files that cannot be identified automatically: {name: format}.
CHOICES = {format.NAME: format for format in (animatelcm,)}


def load(path: str | os.PathLike, options: Options = AS_TRAINED) -> Converted:
    """State dict and LayersInfo of a file of temporal layers, our own or public, or of a folder of diffusers.

    Raises ValueError, with what to do, for a file that is damaged, of no known format, or not complete.
    """
    weights = read(path, keep_prefixes=is_own)
    if is_own(weights.metadata):
        if options != AS_TRAINED:
            raise ValueError(
                f"{path} is of Emu Video's own format, which states its family and its norms; leave both settings at "
                "their defaults."
            )
        return own_layers(weights)
    return convert(weights, options)


def convert(weights: Weights, options: Options = AS_TRAINED) -> Converted:
    """The same for weights that are already read."""
    refused.check(weights)
    if options.family:
        if options.family not in CHOICES:
            raise ValueError(f'there is no family "{options.family}" to choose; use one of {", ".join(CHOICES)}.')
        if not (animatediff.recognises(weights) or motion_adapter.recognises(weights)):
            raise ValueError(
                f"{weights.path} has no motion modules, so it is not {options.family}; leave the family to the file."
            )
        return CHOICES[options.family].convert(weights, options)
    for format in FORMATS:
        if format.recognises(weights):
            return format.convert(weights, options)
    keys = ", ".join(sorted(weights.tensors)[:3]) or "none"
    raise ValueError(
        f"{weights.path} is of no known format of temporal layers (its first keys: {keys}); choose a file of "
        f"{', '.join(format.NAME for format in FORMATS)}, or one that Emu Video saved."
    )
