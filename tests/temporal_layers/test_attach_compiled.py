"""torch.compile sees layers come and go, and traces each state once, not at every attachment."""

import torch
from emu_video.temporal_layers.attach import attach, detach
from emu_video.temporal_layers.backbones import Anchor
from emu_video.temporal_layers.layers import TemporalLayers
from torch import nn
from torch._dynamo.testing import CompileCounter

ANCHORS = (Anchor("input_blocks.0.0", "conv", 8), Anchor("input_blocks.1.0", "conv", 8))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        blocks = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.input_blocks = nn.ModuleList([nn.Sequential(block, nn.SiLU()) for block in blocks])

    def forward(self, x):
        for block in self.input_blocks:
            x = block(x)
        return x


@torch.inference_mode()
def test_each_length_is_traced_once():
    torch._dynamo.reset()
    unet, layers, traced, x = UNet(), TemporalLayers(ANCHORS, 5), CompileCounter(), torch.randn(8, 9, 4, 4)
    layers.load_state_dict(layers.fresh_state_dict())
    for parameter in layers.parameters():
        nn.init.normal_(parameter, std=0.3)
    compiled = torch.compile(unet, backend=traced)
    assert torch.equal(compiled(x[:, :4]), unet(x[:, :4]))
    for frames, expected in ((4, 2), (4, 2), (2, 3), (2, 3), (8, 4), (4, 4)):
        layers.frames = frames
        attach(unet, layers, owner=layers)
        assert torch.equal(compiled(x), unet(x))
        detach(unet, owner=layers)
        assert traced.frame_count == expected
    assert torch.equal(compiled(x[:, :4]), unet(x[:, :4]))
