"""Hanging layers on a UNet: what they change, and that taking them off in any order leaves no trace."""

import gc
import weakref

import pytest
import torch
from emu_video.temporal_layers.attach import attach, detach
from emu_video.temporal_layers.backbones import Anchor
from emu_video.temporal_layers.layers import TemporalLayers
from emu_video.tests.temporal_layers.small import Owner, UNet, trained_layers
from torch import nn


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


@pytest.fixture
def unet():
    return UNet()


def clips(channels: int = 4, videos: int = 2) -> torch.Tensor:
    return torch.randn(videos * 4, channels, 6, 6, generator=torch.Generator().manual_seed(3))


def own_forwards(unet: nn.Module) -> list[str]:
    return [name for name, module in unet.named_modules() if "forward" in vars(module)]


def with_layers(layers: TemporalLayers, x: torch.Tensor, unet: nn.Module | None = None) -> torch.Tensor:
    """The output of a UNet of its own, so that nothing of the test in hand can disturb it."""
    unet, owner = unet or UNet(), Owner()
    attach(unet, layers, owner)
    out = unet(x)
    detach(unet, owner)
    return out


def by_hand(unet: UNet, layers: TemporalLayers, x: torch.Tensor) -> torch.Tensor:
    """The small UNet with the temporal layers written out."""
    conv_in = unet.input_blocks[0][0]
    h = conv_in(x[:, :4])
    if x.shape[1] > 4:
        h = h + layers.conditioning_conv(x[:, 4:])
    h = layers["input_blocks.0.0"](h, 4)
    h = layers["input_blocks.1.0"](unet.input_blocks[1](h), 4)
    return layers["out.1"](unet.out(h), 4)


@pytest.mark.parametrize("channels", [4, 9])
def test_layers_run_behind_their_anchors(unet, channels):
    layers, x, owner = trained_layers(unet), clips(channels), Owner()
    expected, plain = by_hand(unet, layers, x), unet(x[:, :4])
    attach(unet, layers, owner)
    assert torch.equal(unet(x), expected)
    assert (expected - plain).abs().max() > 0.1
    detach(unet, owner)
    assert torch.equal(unet(x[:, :4]), plain)
    assert own_forwards(unet) == []


def test_layers_behind_transformer_blocks(unet):
    layers, x, owner = trained_layers(unet, placement="per_block"), clips(9), Owner()
    blocks = [name for name, _ in layers.items() if "transformer_blocks" in name]
    assert blocks == [f"input_blocks.1.0.transformer_blocks.{i}" for i in range(2)]
    transformer = unet.input_blocks[1][0]
    h = layers["input_blocks.0.0"](unet.input_blocks[0](x[:, :4]) + layers.conditioning_conv(x[:, 4:]), 4)
    tokens = transformer.proj_in(transformer.norm(h)).flatten(2).transpose(1, 2)
    for name, block in zip(blocks, transformer.transformer_blocks, strict=True):
        image = block(tokens).transpose(1, 2).reshape(h.shape)
        tokens = layers[name](image, 4).flatten(2).transpose(1, 2)
    expected = layers["out.1"](unet.out(h + tokens.transpose(1, 2).reshape(h.shape)), 4)
    attach(unet, layers, owner)
    torch.testing.assert_close(unet(x), expected)


def test_fresh_layers_change_nothing(unet):
    layers, x, owner = TemporalLayers(trained_layers(unet).anchors, 5), clips(9), Owner()
    layers.load_state_dict(layers.fresh_state_dict())
    layers.frames = 4
    plain = unet(x[:, :4])
    attach(unet, layers, owner)
    assert torch.equal(unet(x), plain)


def test_one_frame_skips_layers_and_conditioning(unet):
    layers, x, owner = trained_layers(unet), clips(9), Owner()
    plain = unet(x[:, :4])
    attach(unet, layers, owner)
    layers.frames = 1
    assert torch.equal(unet(x), plain)
    assert torch.equal(unet(x[:, :4]), plain)


def test_state_dict_of_the_unet_stays_as_it_is(unet):
    before, owner = unet.state_dict(), Owner()
    attach(unet, trained_layers(unet), owner)
    assert list(unet.state_dict()) == list(before)
    assert sum(1 for _ in unet.modules()) == sum(1 for _ in UNet().modules())


def test_only_the_owner_detaches(unet):
    layers, x, owner = trained_layers(unet), clips(), Owner()
    expected = with_layers(layers, x)
    detach(unet, owner)  # before anything is attached
    attach(unet, layers, owner)
    detach(unet, Owner())
    assert torch.equal(unet(x), expected)
    detach(unet, owner)
    detach(unet, owner)
    assert own_forwards(unet) == []


def test_attaching_twice_is_attaching_once(unet):
    layers, x, owner = trained_layers(unet), clips(), Owner()
    expected = with_layers(layers, x)
    attach(unet, layers, owner)
    attach(unet, layers, owner)
    assert torch.equal(unet(x), expected)
    detach(unet, owner)
    assert own_forwards(unet) == []


def test_the_next_owner_takes_the_place_of_the_first(unet):
    first, second, x = trained_layers(unet, seed=1), trained_layers(unet, seed=2), clips()
    a, b = Owner(), Owner()
    expected = with_layers(second, x)
    attach(unet, first, a)
    attach(unet, second, b)
    detach(unet, a)  # late, as when a dropped clone is collected
    assert torch.equal(unet(x), expected)
    detach(unet, b)
    assert own_forwards(unet) == []


def test_fewer_anchors_leave_none_of_the_earlier_behind(unet):
    all_layers, x = trained_layers(unet), clips()
    few = TemporalLayers(all_layers.anchors[:1], 0)
    few.load_state_dict({key: weight + 0.2 for key, weight in few.fresh_state_dict().items()})
    few.frames = 4
    expected, a, b = with_layers(few, x), Owner(), Owner()
    attach(unet, all_layers, a)
    attach(unet, few, b)
    assert torch.equal(unet(x), expected)


def test_layers_come_off_when_their_owner_dies(unet):
    plain, owner = unet(clips()), Owner()
    attach(unet, trained_layers(unet), owner)
    del owner
    assert torch.equal(unet(clips()), plain)
    assert own_forwards(unet) == []


def test_layers_come_off_when_their_owner_dies_in_a_cycle(unet):
    plain, owner = unet(clips()), Owner()
    owner.itself = owner
    attach(unet, trained_layers(unet), owner)
    del owner
    gc.collect()
    assert torch.equal(unet(clips()), plain)
    assert own_forwards(unet) == []


def test_a_dropped_unet_leaves_memory_at_once():
    """Without waiting for Python's collector: on a card, the next checkpoint needs the room."""
    unet = UNet()
    layers, owner = trained_layers(unet), Owner()
    gc.collect()
    gc.disable()
    try:
        attach(unet, layers, owner)
        unet(clips())
        detach(unet, owner)
        modules = [weakref.ref(module) for module in unet.modules()]
        del unet, layers
        assert [module for module in modules if module() is not None] == []
    finally:
        gc.enable()


def test_a_swap_that_another_pack_has_uncovered_is_used_again(unet):
    layers, owner, module = trained_layers(unet), Owner(), unet.out[1]
    foreign = Foreign(module)
    attach(unet, layers, owner)
    swap = vars(module)["forward"]
    foreign.inject()
    detach(unet, owner)
    foreign.eject()
    attach(unet, layers, owner)
    assert vars(module)["forward"] is swap
    assert torch.equal(unet(clips()), with_layers(layers, clips()))
    detach(unet, owner)
    assert own_forwards(unet) == []


def test_two_unets_do_not_mix(unet):
    other, x, a, b = UNet(seed=1), clips(), Owner(), Owner()
    plain, layers, others = other(x), trained_layers(unet, seed=1), trained_layers(unet, seed=2)
    expected = with_layers(layers, x), with_layers(others, x, UNet(seed=1))
    attach(unet, layers, a)
    assert torch.equal(other(x), plain)
    attach(other, others, b)
    assert torch.equal(unet(x), expected[0]) and torch.equal(other(x), expected[1])
    detach(unet, a)
    assert torch.equal(other(x), expected[1])


class Foreign:
    """Replaces a module's forward the way bypass LoRA does: keeps what it found and puts it back."""

    def __init__(self, module: nn.Module):
        self.module, self.found = module, module.forward

    def inject(self) -> None:
        self.found = self.module.forward
        self.module.forward = lambda *args: self.found(*args) * 2

    def eject(self) -> None:
        self.module.forward = self.found


@pytest.mark.parametrize("ours_first_in", [True, False])
@pytest.mark.parametrize("ours_first_out", [True, False])
def test_foreign_replacements_in_every_order(unet, ours_first_in, ours_first_out):
    layers, x, owner = trained_layers(unet), clips(), Owner()
    plain = unet(x)
    foreign = Foreign(unet.out[1])
    for _ in range(3):
        steps = [lambda: attach(unet, layers, owner), foreign.inject]
        for step in steps if ours_first_in else reversed(steps):
            step()
        both = unet(x)
        steps = [lambda: detach(unet, owner), foreign.eject]
        first, second = steps if ours_first_out else reversed(steps)
        first()
        one = unet(x)
        second()
        if ours_first_out:
            assert torch.equal(one, plain * 2)
        elif ours_first_in:
            assert torch.equal(one, with_layers(layers, x))
        assert torch.equal(unet(x), plain)
        assert not torch.equal(both, one)


def test_attaching_again_under_a_foreign_replacement_applies_layers_once(unet):
    layers, x, owner = trained_layers(unet), clips(), Owner()
    foreign = Foreign(unet.input_blocks[1][0])
    attach(unet, layers, owner)
    foreign.inject()
    detach(unet, owner)
    doubled = unet(x)
    attach(unet, layers, owner)
    expected = by_hand_with_doubled_transformer(unet, layers, x)
    assert torch.equal(unet(x), expected)
    attach(unet, layers, owner)
    assert torch.equal(unet(x), expected)
    detach(unet, owner)
    assert torch.equal(unet(x), doubled)


def by_hand_with_doubled_transformer(unet, layers, x):
    plain = UNet()
    h = layers["input_blocks.0.0"](plain.input_blocks[0](x), 4)
    h = layers["input_blocks.1.0"](plain.input_blocks[1](h) * 2, 4)
    return layers["out.1"](plain.out(h), 4)


def test_a_missing_anchor_is_named_and_nothing_is_attached(unet):
    known = trained_layers(unet).anchors
    layers = TemporalLayers((*known, Anchor("middle_block.1", "attention", 8)), 5)
    with pytest.raises(ValueError, match=r"no module middle_block\.1; load temporal layers made for this base"):
        attach(unet, layers, Owner())
    assert own_forwards(unet) == []


def test_a_batch_of_broken_clips_is_refused(unet):
    owner = Owner()
    attach(unet, trained_layers(unet), owner)
    with pytest.raises(ValueError, match="batch has 7 frames, which is not a multiple of the 4 frames of one video"):
        unet(clips()[:7])


def test_a_wrong_number_of_channels_is_refused(unet):
    owner = Owner()
    attach(unet, trained_layers(unet), owner)
    with pytest.raises(ValueError, match=r"got 8 channels instead of 4 \(latents\) or 9"):
        unet(clips(8))
