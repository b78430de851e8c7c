"""Another kind of image model takes one file: a transformer of two blocks, described here and nowhere else."""

import json

import pytest
import torch
from emu_video.temporal_layers import backbones
from emu_video.temporal_layers.attach import attach, detach
from emu_video.temporal_layers.backbones.base import Anchor, Part
from emu_video.temporal_layers.files import check_fits, load_layers, save_layers
from emu_video.temporal_layers.info import LayersInfo
from emu_video.temporal_layers.layers import TemporalLayers
from emu_video.temporal_layers.noise import Flow
from torch import nn

WIDTH, TEXT, FRAMES = 16, 3, 4


class Block(nn.Module):
    """Two streams, as Flux and SD3 have them: (text tokens, image tokens) -> the same."""

    def __init__(self):
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, text, image):
        return text + self.mlp(self.norm(text)), image + self.mlp(self.norm(image)) + text.mean(1, keepdim=True)


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(8, WIDTH, 2, stride=2)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.out = nn.Linear(WIDTH, 8)

    def forward(self, x):
        text, image = torch.ones(len(x), TEXT, WIDTH), self.embed(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            text, image = block(text, image)
        return self.out(image)


class TransformerBackbone:
    latent_channels = 8
    bases = ("two_blocks",)
    input_anchor = "embed"

    def recognises(self, network):
        return isinstance(network, Transformer)

    def identify(self, network):
        return "two_blocks"

    def modules(self, network):
        return network.named_modules()

    def anchors(self, network, placement):
        return (Anchor("embed", "input", WIDTH), *(Anchor(f"blocks.{i}", "attention", WIDTH) for i in range(2)))

    def part(self, module):
        sorts = {Block: "transformer_block", nn.Conv2d: "spatial_conv"}
        return Part(sorts[type(module)], WIDTH) if type(module) in sorts else None

    def to_frames(self, out):
        text, image = out
        return image.transpose(1, 2).unsqueeze(-1), lambda changed: (text, changed.squeeze(-1).transpose(1, 2))

    def conditioning_conv(self, channels, width, operations):
        return operations.Conv2d(channels, width, 2, stride=2, bias=False)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(backbones, "BACKBONES", (*backbones.BACKBONES, TransformerBackbone()))
    with torch.no_grad():
        yield


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Transformer()


@pytest.fixture
def info(network):
    return LayersInfo(
        base=backbones.identify_base(network),
        role="video",
        anchors=backbones.find_anchors(network),
        frames=FRAMES,
        fps=8.0,
        conditioning_channels=9,
        noise=Flow(shift=3.0),
    )


def clips() -> torch.Tensor:
    """Two videos: latents, known frames and mask."""
    return torch.randn(2 * FRAMES, 17, 4, 6, generator=torch.Generator().manual_seed(1))


def trained(layers: TemporalLayers) -> TemporalLayers:
    weights = layers.fresh_state_dict()
    layers.load_state_dict({key: weight + 0.3 * torch.randn(weight.shape) for key, weight in weights.items()})
    layers.frames = FRAMES
    return layers


def test_fresh_layers_change_no_bit(network, info):
    layers, x = TemporalLayers.of(info), clips()
    layers.load_state_dict(layers.fresh_state_dict())
    layers.frames = FRAMES
    plain = network(x[:, :8])
    attach(network, layers, owner=layers)
    assert torch.equal(network(x), plain)


def test_layers_mix_frames_and_keep_videos_apart(network, info):
    layers, x = trained(TemporalLayers.of(info)), clips()
    plain = network(x[:, :8])
    attach(network, layers, owner=layers)
    out = network(x)
    changed = x.clone()
    changed[1] += 1  # a frame of the first video
    difference = (network(changed) - out).abs().amax((1, 2))
    assert difference[:FRAMES].gt(0).all() and difference[FRAMES:].eq(0).all()
    layers.frames = 1
    assert torch.equal(network(x), plain)
    detach(network, owner=layers)
    assert torch.equal(network(x[:, :8]), plain)


def test_its_files_are_of_version_2(network, info, tmp_path):
    path, layers = tmp_path / "layers.safetensors", trained(TemporalLayers.of(info))
    save_layers(path, layers.state_dict(), info)
    loaded, read = load_layers(path)
    assert read == info and read.noise == Flow(shift=3.0) and json.loads(info.to_json())["format_version"] == 2
    assert loaded["embed.extra.weight"].shape == (WIDTH, 9, 2, 2)
    check_fits(network, info, path)
    assert read.prediction == "flow" and read.zero_terminal_snr
    with pytest.raises(ValueError, match="trained with a flow, which has no betas"):
        read.betas  # noqa: B018
