"""A UNet of the right names and a few thousand weights, for tests that need no ComfyUI."""

import torch
from emu_video.temporal_layers.backbones import find_anchors
from emu_video.temporal_layers.info import LayersInfo
from emu_video.temporal_layers.layers import TemporalLayers
from emu_video.temporal_layers.noise import Discrete
from torch import nn

CHANNELS = 8


class TransformerBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(CHANNELS)
        self.attn1 = nn.Linear(CHANNELS, CHANNELS)
        self.attn2 = nn.ModuleDict({"to_k": nn.Linear(6, CHANNELS)})
        self.ff = nn.Linear(CHANNELS, CHANNELS)

    def forward(self, x):
        return x + self.ff(self.norm1(x))


class SpatialTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.GroupNorm(2, CHANNELS)
        self.proj_in = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(), TransformerBlock()])

    def forward(self, x):
        tokens = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            tokens = block(tokens)
        return x + tokens.transpose(1, 2).reshape(x.shape)


class UNet(nn.Module):
    """(b t) c h w -> the same; the first convolution, a transformer, the last convolution."""

    def __init__(self, in_channels: int = 4, seed: int = 0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.input_blocks = nn.ModuleList(
                [nn.Sequential(nn.Conv2d(in_channels, CHANNELS, 3, padding=1)), nn.Sequential(SpatialTransformer())]
            )
            self.out = nn.Sequential(nn.SiLU(), nn.Conv2d(CHANNELS, 4, 3, padding=1))

    def forward(self, x):
        for block in self.input_blocks:
            x = block(x)
        return self.out(x)


class Owner:
    """Anything that can be weakly referenced."""


def trained_layers(unet: nn.Module, conditioning_channels: int = 5, seed: int = 0, **options) -> TemporalLayers:
    """Temporal layers that change the UNet's output, for clips of 4 frames."""
    layers = TemporalLayers(find_anchors(unet, **options), conditioning_channels)
    layers.load_state_dict(layers.fresh_state_dict(seed))
    generator = torch.Generator().manual_seed(seed)
    for parameter in layers.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    layers.frames = 4
    return layers.requires_grad_(False)


def info_for(layers: TemporalLayers, **changes) -> LayersInfo:
    entries = {
        "base": "pocket",
        "role": "video",
        "anchors": layers.anchors,
        "frames": 8,
        "fps": 8.0,
        "conditioning_channels": layers.conditioning_channels,
        "noise": Discrete(prediction="v", zero_terminal_snr=True),
        "training": {"steps": 3, "note": "a test"},
    }
    return LayersInfo(**(entries | changes))
