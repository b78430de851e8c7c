import torch
from emu_video.temporal_layers.formats import convert, motion_lora
from emu_video.temporal_layers.layers import TemporalLayers
from emu_video.temporal_layers.reader import Weights
from emu_video.tests.temporal_layers.formats.public import animatediff
from emu_video.training.low_rank import make_low_rank, merged
from emu_video.training.low_rank import motion_lora as written


def test_the_loader_reads_what_is_written():
    """Every change comes back at the weight that it was trained for."""
    state_dict, info = convert(Weights("ad.safetensors", animatediff(middle=True), {}))
    layers = TemporalLayers.of(info)
    layers.load_state_dict({key: weight.float() for key, weight in state_dict.items()})
    make_low_rank(layers, info, 2, 0)
    for name, parameter in layers.named_parameters():
        if name.endswith(".up"):
            torch.nn.init.normal_(parameter)
    low_rank = layers.state_dict()
    public = written(low_rank, info)
    assert all(key.startswith(("down_blocks", "up_blocks", "mid_block")) for key in public)
    changes = motion_lora.motion_lora(Weights("lora.safetensors", public, {}), info).changes
    plain = merged(low_rank)
    assert len(changes) == len(public) // 2 == 8 * sum(a.kind == "transformer" for a in info.anchors)
    for key, change in changes.items():
        assert torch.allclose(state_dict[key].float() + change.up @ change.down, plain[key], atol=1e-5), key
    others = plain.keys() - changes.keys()
    assert all(torch.equal(plain[key], state_dict[key].float()) for key in others)
