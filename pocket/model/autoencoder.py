"""The pocket's autoencoder: the layer layout of TAESD (8x smaller) at any width and number of latent channels.

ComfyUI recognises TAESD inside a checkpoint, reads its latent channels off the weights and always builds it 64 channels
wide. `widen` pads narrower weights with zero channels, so the stock loader computes the same function.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

WIDTH = 32
TAESD_WIDTH = 64
LATENT_CHANNELS = 4


def _conv(inputs: int, outputs: int, **options) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


class _Clamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class _Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Sequential(_conv(width, width), nn.ReLU(), _conv(width, width), nn.ReLU(), _conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x) + x)


class Autoencoder(nn.Module):
    """Encode pictures [n, 3, h, w] in 0..1 to latents [n, C, h/8, w/8], and decode them."""

    def __init__(self, width: int = WIDTH, latent_channels: int = LATENT_CHANNELS):
        super().__init__()
        encoder: list[nn.Module] = [_conv(3, width), _Block(width)]
        for _ in range(3):
            encoder += [_conv(width, width, stride=2, bias=False), *(_Block(width) for _ in range(3))]
        self.taesd_encoder = nn.Sequential(*encoder, _conv(width, latent_channels))
        decoder: list[nn.Module] = [_Clamp(), _conv(latent_channels, width), nn.ReLU()]
        for _ in range(3):
            decoder += [
                *(_Block(width) for _ in range(3)),
                nn.Upsample(scale_factor=2),
                _conv(width, width, bias=False),
            ]
        self.taesd_decoder = nn.Sequential(*decoder, _Block(width), _conv(width, 3))

    @classmethod
    def of(cls, state_dict: dict[str, Tensor]) -> Autoencoder:
        """Return an autoencoder with these weights and their width."""
        width, latent_channels = state_dict["taesd_decoder.1.weight"].shape[:2]
        model = cls(width, latent_channels)
        model.load_state_dict(state_dict)
        return model

    def encode(self, pictures: Tensor) -> Tensor:
        return self.taesd_encoder(pictures)

    def decode(self, latents: Tensor) -> Tensor:
        return self.taesd_decoder(latents)

    def pictures(self, latents: Tensor) -> np.ndarray:
        """Decode latents to pictures, uint8 [n, 8h, 8w, 3]."""
        decoded = torch.cat([self.decode(part) for part in latents.split(32)])
        return (decoded.clamp(0, 1) * 255).round().to(torch.uint8).movedim(1, -1).numpy()


def widen(state_dict: dict[str, Tensor], width: int = TAESD_WIDTH) -> dict[str, Tensor]:
    """Return the same autoencoder with `width` channels: every narrower channel axis is padded with zeros."""
    narrow = state_dict["taesd_encoder.0.weight"].shape[0]
    if narrow == width:
        return state_dict

    def pad(tensor: Tensor) -> Tensor:
        for axis in range(min(tensor.ndim, 2)):
            if tensor.shape[axis] == narrow:
                shape = list(tensor.shape)
                shape[axis] = width - narrow
                tensor = torch.cat([tensor, tensor.new_zeros(shape)], axis)
        return tensor

    return {key: pad(tensor) for key, tensor in state_dict.items()}
