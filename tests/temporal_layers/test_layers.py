"""TemporalLayers: fresh weights and what operations that do not initialise may rely on."""

import pytest
import torch
from emu_video.temporal_layers.backbones import Anchor, find_anchors, identify_base
from emu_video.temporal_layers.backbones.unet import UNET
from emu_video.temporal_layers.kinds import KINDS, carries, strengths
from emu_video.temporal_layers.layers import TemporalLayers
from emu_video.tests.temporal_layers.small import UNet, trained_layers
from torch import nn


class NaN(nn.Module):
    def reset_parameters(self):
        for parameter in self.parameters():
            nn.init.constant_(parameter, float("nan"))


class Uninitialised:
    """Operations whose weights are NaN until loaded."""

    class Conv2d(NaN, nn.Conv2d):
        pass

    class Linear(NaN, nn.Linear):
        pass

    class LayerNorm(NaN, nn.LayerNorm):
        pass


def test_fresh_weights_do_not_depend_on_the_operations():
    anchors = find_anchors(UNet())
    layers = TemporalLayers(anchors, 5, operations=Uninitialised)
    assert all(parameter.isnan().all() for parameter in layers.parameters())
    fresh = layers.fresh_state_dict(seed=3)
    layers.load_state_dict(fresh)
    expected = TemporalLayers(anchors, 5).fresh_state_dict(seed=3)
    assert all(torch.equal(weight, expected[key]) for key, weight in layers.state_dict().items())


def test_fresh_weights_follow_the_seed_alone():
    layers = trained_layers(UNet())
    state = torch.get_rng_state()
    first, again, other = (layers.fresh_state_dict(seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    key = "input_blocks.1.0.to_q.weight"
    assert torch.equal(first[key], again[key]) and not torch.equal(first[key], other[key])


def test_which_fresh_weights_are_zero():
    fresh = trained_layers(UNet()).fresh_state_dict()
    zero = {key.rsplit(".", 2)[1] for key, weight in fresh.items() if weight.eq(0).all() and "norm" not in key}
    assert zero == {"conv", "extra", "to_out", "mlp_out"}
    assert all(weight.dtype == torch.float32 and weight.device.type == "cpu" for weight in fresh.values())


def test_without_conditioning_channels_there_is_no_extra_convolution():
    layers = TemporalLayers(find_anchors(UNet()), 0)
    assert layers.conditioning_conv is None
    assert not any("extra" in key for key in layers.state_dict())


def test_refusals():
    with pytest.raises(ValueError, match='anchor out has the unknown kind "rnn"; known are conv, attention'):
        TemporalLayers([Anchor("out", "rnn", 8)], 0)
    with pytest.raises(ValueError, match=r"conditioning channels need the anchor input_blocks\.0\.0"):
        TemporalLayers([Anchor("out.1", "conv", 4)], 5)
    with pytest.raises(ValueError, match='placement is "all"; use per_transformer or per_block'):
        find_anchors(UNet(), placement="all")
    with pytest.raises(ValueError, match=r"none of sd15, .*\(model_channels 8, context_dim 6, convs 2, transformers 1"):
        identify_base(UNet())
    with pytest.raises(ValueError, match=r"\(Linear\) is not supported; use a checkpoint of sd15, "):
        identify_base(nn.Linear(2, 2))


def test_strength_groups():
    assert strengths(attention=0.5, convolution=2.0) == {
        "conv": 2.0, "conv_stack": 2.0, "attention": 0.5, "transformer": 0.5, "transformer_in": 0.5, "clip_norm": 0.5,
    }  # fmt: skip
    assert {name for name, kind in KINDS.items() if kind.strength == "none"} == {"input", "embedding"}


class QuantisedLinear(nn.Module):
    """The linear layer of a quantised checkpoint, which is not a torch.nn.Linear."""

    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features


def test_layers_hang_on_quantised_linear_layers():
    embedding = nn.Sequential(QuantisedLinear(8, 32), nn.SiLU(), QuantisedLinear(32, 32))
    assert carries(UNET, embedding, Anchor("time_embed", "embedding", 32))
    assert not carries(UNET, embedding, Anchor("time_embed", "embedding", 16))
    assert not carries(UNET, embedding, Anchor("time_embed", "conv", 32))
    assert not carries(UNET, nn.Sequential(nn.SiLU()), Anchor("time_embed", "embedding", 32))


@pytest.mark.parametrize("name", ["a.forward", "a", "a.norm1", "a.norm1.weight"])
def test_names_that_clash_are_refused(name):
    with pytest.raises(ValueError, match=f"the anchor {name} has the same name as a part"):
        TemporalLayers([Anchor("a", "attention", 8), Anchor(name, "conv", 8)], 0)
