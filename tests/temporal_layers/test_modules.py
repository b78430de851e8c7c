"""The temporal modules against plain, slow references, and what they promise: identity, layout, autograd."""

import math

import pytest
import torch
import torch.nn.functional as F
from emu_video.temporal_layers.modules.attention import TemporalAttention
from emu_video.temporal_layers.modules.conv import TemporalConv
from emu_video.temporal_layers.modules.frames import attend, sinusoidal_positions

MODULES = [TemporalConv, TemporalAttention]
LAYOUTS = [torch.contiguous_format, torch.channels_last]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def random_weights(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    return module


def activations(videos=2, frames=5, channels=32, height=3, width=4, seed=1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(videos * frames, channels, height, width, generator=generator)


def conv_by_hand(module: TemporalConv, x: torch.Tensor, frames: int) -> torch.Tensor:
    """A Conv1d over the frames of each pixel of each video, one pixel at a time."""
    weight, bias = module.conv.weight[..., 0], module.conv.bias
    out = torch.empty_like(x)
    for start in range(0, x.shape[0], frames):
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                line = x[start : start + frames, :, row, column]  # t c
                convolved = F.conv1d(line.T[None], weight, bias, padding=1)[0].T
                out[start : start + frames, :, row, column] = line + convolved
    return out


def attention_by_hand(module: TemporalAttention, x: torch.Tensor, frames: int) -> torch.Tensor:
    """Attention and MLP over the frames of each pixel, with loops over pixels, heads, queries and keys."""
    channels = x.shape[1]
    width = channels // module.heads
    out = torch.empty_like(x)
    for start in range(0, x.shape[0], frames):
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                line = x[start : start + frames, :, row, column]  # t c
                n = F.layer_norm(line, (channels,), module.norm1.weight, module.norm1.bias)
                n = n + positions_by_hand(frames, channels)
                q, k, v = (n @ layer.weight.T for layer in (module.to_q, module.to_k, module.to_v))
                mixed = torch.zeros_like(line)
                for head in range(module.heads):
                    part = slice(head * width, (head + 1) * width)
                    for i in range(frames):
                        scores = torch.stack([q[i, part] @ k[j, part] for j in range(frames)]) / math.sqrt(width)
                        mixed[i, part] = sum(p * v[j, part] for j, p in enumerate(scores.softmax(0)))
                line = line + module.to_out(mixed)
                n = F.layer_norm(line, (channels,), module.norm2.weight, module.norm2.bias)
                line = line + module.mlp_out(F.gelu(module.mlp_in(n)))
                out[start : start + frames, :, row, column] = line
    return out


def positions_by_hand(frames: int, channels: int) -> torch.Tensor:
    positions = torch.zeros(frames, channels)
    half = channels // 2
    for frame in range(frames):
        for i in range(half):
            angle = frame / 10000 ** (i / half)
            positions[frame, i] = math.sin(angle)
            positions[frame, half + i] = math.cos(angle)
    return positions


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_conv_matches_conv1d_of_each_pixel(layout, frames):
    module = random_weights(TemporalConv(32))
    x = activations(frames=frames)
    with torch.no_grad():
        expected = conv_by_hand(module, x, frames)
        actual = module(x.to(memory_format=layout), frames)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("channels", "heads"), [(32, 1), (128, 2)])
def test_attention_matches_loops(layout, channels, heads):
    module = random_weights(TemporalAttention(channels))
    assert module.heads == heads
    x = activations(channels=channels, height=2, width=2)
    with torch.no_grad():
        expected = attention_by_hand(module, x, 5)
        actual = module(x.to(memory_format=layout), 5)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_attention_refuses_channels_that_do_not_divide_into_heads():
    with pytest.raises(ValueError, match="100 channels cannot be divided into heads of 64"):
        TemporalAttention(100)


@pytest.mark.parametrize("heads", [1, 4])
def test_attend_is_the_same_by_every_route(heads, monkeypatch):
    q, k, v = torch.randn(3, 2, 6, 10, 32, generator=torch.Generator().manual_seed(0))
    fused = attend(q, k, v, heads)
    products = attend(q.double(), k.double(), v.double(), heads)
    monkeypatch.setattr("emu_video.temporal_layers.modules.frames.SDPA_BATCH_LIMIT", 7)
    split = attend(q, k, v, heads)
    torch.testing.assert_close(fused.double(), products, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(split, fused)


def test_positions_of_a_longer_clip_continue_those_of_a_shorter():
    short, long = sinusoidal_positions(8, 33), sinusoidal_positions(37, 33)
    assert torch.equal(long[:8], short)
    assert (long[1:] - long[:-1]).abs().sum(1).min() > 0.1
    assert long[:, 32].eq(0).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("module", MODULES)
def test_identity_bit_for_bit_and_layout_kept(module, dtype, layout):
    torch.manual_seed(0)
    layer = module(64)
    layer.zero_()
    x = activations(channels=64).to(dtype).to(memory_format=layout)
    y = layer.to(dtype)(x, 5)
    assert torch.equal(y, x)
    assert y.is_contiguous(memory_format=layout) and y.dtype == dtype


@pytest.mark.parametrize("module", MODULES)
def test_videos_and_pixels_do_not_mix(module):
    layer = random_weights(module(32))
    x = activations()
    changed = x.clone()
    changed[:5] += 1  # the first of two videos
    changed[..., 0, 0] += 1
    with torch.no_grad():
        difference = (layer(changed, 5) - layer(x, 5)).abs().amax(1)
    assert difference[5:].flatten(1)[:, 1:].eq(0).all()
    assert difference[:, 0, 0].gt(0).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("module", MODULES)
def test_gradients(module, layout):
    layer = random_weights(module(4)).double()
    x = activations(videos=2, frames=3, channels=4, height=2, width=2).double().to(memory_format=layout)
    assert torch.autograd.gradcheck(lambda x: layer(x, 3), x.requires_grad_())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("module", MODULES)
def test_trains_under_bfloat16_autocast(module, layout):
    layer = random_weights(module(64))
    x = activations(channels=64).to(memory_format=layout)
    exact = torch.autograd.grad(layer(x, 5).square().mean(), list(layer.parameters()))
    with torch.autocast("cpu", torch.bfloat16):
        loss = layer(x, 5).square().mean()
    rounded = torch.autograd.grad(loss, list(layer.parameters()))
    for a, b in zip(rounded, exact, strict=True):
        assert (a - b).norm() < 0.05 * b.norm()
