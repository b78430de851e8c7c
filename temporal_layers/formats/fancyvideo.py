"""FancyVideo (Feng et al. 2024): AnimateDiff v2's modules with Emu Video's conditioning and schedule on SD1.5.

Five conditioning channels: the first frame's latents, zeros on the other frames, then the mask (1 = known).
v-prediction with zero terminal SNR from linear betas. Some variants embed frames per second, motion or both, and add
the embeddings to the time embedding; the file's keys show which. The variants of 61 and 125 frames count decoded frames
of a video VAE; in latent frames these are 16 and 32.
"""

from __future__ import annotations

from ..backbones.unet import LATENT_CHANNELS, TIME_EMBEDDING, Anchor
from ..noise import Discrete
from ..reader import Weights
from . import animatediff, pia
from .conversion import Converted, Options
from .motion_module_family import OFFICIAL, MotionModules

NAME = "FancyVideo"
NOISE = Discrete(schedule="linear", prediction="v", zero_terminal_snr=True)
VALUES = {"fps": 25.0, "motion": 3.0}  # values in the published configurations
EMBEDDINGS = {"fps": "fps_embedding.linear", "motion": "motion_embedding.linear"}


def recognises(weights: Weights) -> bool:
    return animatediff.recognises(weights) and animatediff.has_middle(weights) and pia.reads_conditioning(weights)


def convert(weights: Weights, options: Options) -> Converted:
    modules = MotionModules(weights, OFFICIAL, options)
    modules.take_modules(positions=32, resnet_norm="frame")
    modules.take_conditioning(LATENT_CHANNELS + 1)
    names = {name: key for name, key in EMBEDDINGS.items() if weights.has(key)}
    if names:
        width = 4 * modules.width("conv_in.weight")
        values = {name: VALUES[name] for name in names}
        modules.add(Anchor(TIME_EMBEDDING, "embedding", width), "", names, values=values)
    fps = {"fps": VALUES["fps"]} if names else {}
    return modules.result(family=NAME, noise=NOISE, **fps)
