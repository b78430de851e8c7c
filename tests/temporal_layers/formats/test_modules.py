"""The modules of public temporal layers against diffusers' classes and against their published equations."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.resnet import TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from emu_video.temporal_layers.formats.conversion import Conversion
from emu_video.temporal_layers.formats.modelscope import STACK
from emu_video.temporal_layers.formats.motion_module_family import ANIMATEDIFF, DIFFUSERS
from emu_video.temporal_layers.kinds import KINDS, Anchor, new_module
from emu_video.temporal_layers.modules.frames import interleaved_positions
from emu_video.temporal_layers.reader import Weights
from emu_video.tests.temporal_layers.formats import plain, public

FRAMES = 5
TOLERANCE = 1e-5
NORMS = ("frame", "clip")


def converted(weights: dict[str, torch.Tensor], kind: str, channels: int, keys, **options):
    """Our module with the weights of a file, by the conversion."""
    conversion = Conversion(Weights("file", weights))
    conversion.add(Anchor("here", kind, channels), "", keys, **options)
    assert conversion._used == weights.keys()
    module = new_module(Anchor("here", kind, channels), options)
    module.load_state_dict({key.removeprefix("here."): tensor for key, tensor in conversion.state_dict.items()})
    return module.requires_grad_(False)


def clips(channels: int, count: int = 2) -> torch.Tensor:
    """Frames of different brightness, so that norms over frames and over clips differ."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count * FRAMES, channels, 3, 4, generator=generator)
    return (
        x * torch.linspace(0.3, 2.0, len(x))[:, None, None, None] + torch.linspace(-1, 1, len(x))[:, None, None, None]
    )


def difference(ours: torch.Tensor, theirs: torch.Tensor, x: torch.Tensor) -> float:
    """Greatest error, relative to the greatest change that the module makes."""
    return ((ours - theirs).abs().max() / (theirs - x).abs().max()).item()


@pytest.mark.parametrize("channels", [32, 320])
def test_motion_module_equals_diffusers(channels):
    weights = public.motion_module("m", channels, 0, public.Random())
    weights = plain.without_prefix(weights, "m.")
    reference = AnimateDiffTransformer3D(
        8, channels // 8, channels, positional_embeddings="sinusoidal", num_positional_embeddings=32
    ).requires_grad_(False)
    renamed = {}
    for key, tensor in weights.items():
        for theirs, names in (("attn1", "attention_blocks.0"), ("attn2", "attention_blocks.1"), ("norm1", "norms.0"),
                              ("norm2", "norms.1"), ("norm3", "ff_norm")):  # fmt: skip
            key = key.replace(names, theirs)
        renamed[key] = tensor
    missing = reference.load_state_dict(renamed, strict=False)
    assert missing.missing_keys == ["transformer_blocks.0.pos_embed.pe"] and not missing.unexpected_keys
    x = clips(channels)
    expected = reference(x, num_frames=FRAMES)
    for keys, file in ((ANIMATEDIFF, weights), (DIFFUSERS, renamed)):
        module = converted(file, "transformer", channels, keys, heads=8, positions=32, norm="clip")
        assert difference(module(x, FRAMES), expected, x) < TOLERANCE
    per_frame = converted(weights, "transformer", channels, ANIMATEDIFF, heads=8, positions=32, norm="frame")
    assert difference(per_frame(x, FRAMES), expected, x) > 0.05


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("positions", [0, 24])
def test_motion_module_equals_its_equations(norm, positions):
    weights = plain.without_prefix(public.motion_module("m", 64, 0, public.Random(2)), "m.")
    module = converted(weights, "transformer", 64, ANIMATEDIFF, heads=8, positions=positions, norm=norm)
    x = clips(64)
    expected = [plain.motion_module(clip, weights, norm == "clip", bool(positions)) for clip in x.split(FRAMES)]
    assert difference(module(x, FRAMES), torch.cat(expected), x) < TOLERANCE


def test_other_memory_layouts_change_nothing():
    weights = plain.without_prefix(public.motion_module("m", 32, 0, public.Random(3)), "m.")
    x = clips(32)
    for norm in NORMS:
        module = converted(weights, "transformer", 32, ANIMATEDIFF, heads=8, positions=24, norm=norm)
        expected = module(x, FRAMES)
        out = module(x.contiguous(memory_format=torch.channels_last), FRAMES)
        assert difference(out, expected, x) < TOLERANCE
        assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("channels", "heads"), [(64, 1), (128, 2)])
def test_modelscope_attention_equals_diffusers(channels, heads):
    weights = plain.without_prefix(public.transformer("t", channels, channels, public.Random()), "t.")
    reference = TransformerTemporalModel(heads, 64, channels).requires_grad_(False)
    reference.load_state_dict(weights)
    module = converted(weights, "transformer", channels, DIFFUSERS, head_dim=64, norm="clip")
    x = clips(channels)
    assert difference(module(x, FRAMES), reference(x, num_frames=FRAMES, return_dict=False)[0], x) < TOLERANCE


def test_transformer_in_equals_diffusers():
    weights = plain.without_prefix(public.transformer("t", 64, 512, public.Random()), "t.")
    reference = TransformerTemporalModel(8, 64, 64).requires_grad_(False)
    reference.load_state_dict(weights)
    module = converted(weights, "transformer_in", 64, DIFFUSERS, heads=8, head_dim=64, norm="clip")
    x = clips(64)
    assert difference(module(x, FRAMES), reference(x, num_frames=FRAMES, return_dict=False)[0], x) < TOLERANCE


def test_modelscope_convolutions_equal_diffusers():
    weights = plain.without_prefix(public.conv_stack("c", 64, public.Random()), "c.")
    reference = TemporalConvLayer(64, 64).requires_grad_(False).eval()
    reference.load_state_dict(weights)
    module = converted(weights, "conv_stack", 64, STACK, norm="clip")
    x = clips(64)
    expected = reference(x, num_frames=FRAMES)
    assert difference(module(x, FRAMES), expected, x) < TOLERANCE
    per_frame = converted(weights, "conv_stack", 64, STACK, norm="frame")
    assert difference(per_frame(x, FRAMES), expected, x) > 0.05


def test_convolutions_with_norms_over_frames_equal_single_frames_where_nothing_is_mixed():
    """With kernels that read the middle frame alone, a clip is its frames one by one."""
    weights = plain.without_prefix(public.conv_stack("c", 64, public.Random()), "c.")
    for tensor in weights.values():
        if tensor.ndim == 5:
            tensor[:, :, (0, 2)] = 0
    module = converted(weights, "conv_stack", 64, STACK, norm="frame")
    x = clips(64)
    assert difference(module(x, FRAMES), torch.cat([module(frame[None], 1) for frame in x]), x) < TOLERANCE


@pytest.mark.parametrize("values", [{}, {"fps": 25.0}, {"fps": 8.0, "motion": 3.0}])
def test_values_are_added_to_the_time_embedding(values):
    weights = plain.without_prefix(public.fancyvideo(), "fps_embedding.")
    weights = {f"fps.{key}": tensor for key, tensor in weights.items()}
    weights |= {f"motion.{k}": t for k, t in plain.without_prefix(public.fancyvideo(), "motion_embedding.").items()}
    keys = {"fps": "fps.linear", "motion": "motion.linear"}
    module = converted(weights, "embedding", 128, keys, values={"fps": 25.0, "motion": 3.0})
    module.values = values
    x = torch.randn(6, 128, generator=torch.Generator().manual_seed(4))
    expected = x.clone()
    for name, value in values.items():
        expected = expected + plain.value_embedding(value, weights, f"{name}.linear")
    assert torch.allclose(module(x, 3), expected, atol=1e-5)
    assert torch.equal(module(x, 3), x) == (not values)


def test_positions_are_the_published_sinusoids():
    for channels in (32, 320, 1280):
        assert torch.allclose(interleaved_positions(32, channels), public.sinusoids(32, channels)[0], atol=1e-5)


def test_more_frames_than_positions_are_refused():
    module = KINDS["transformer"].module(32, heads=8, positions=4)
    with pytest.raises(
        ValueError, match="has 5 frames, but these temporal layers were trained with 4 positions; make at most"
    ):
        module(torch.zeros(5, 32, 2, 2), 5)
    assert module(torch.zeros(5, 32, 2, 2), 1).shape == (5, 32, 2, 2)


@pytest.mark.parametrize("kind", ["transformer", "transformer_in", "conv_stack", "input", "clip_norm", "embedding"])
def test_zeroed_modules_are_the_identity(kind):
    options = {
        "transformer": {"heads": 8},
        "transformer_in": {"heads": 8, "head_dim": 64},
        "embedding": {"values": {"a": 3.0}},
    }
    module = KINDS[kind].module(32, **options.get(kind, {}))
    module.zero_()
    if kind == "clip_norm":
        return
    x = clips(32)[:, :, 0, 0] if kind == "embedding" else clips(32)
    assert torch.equal(module(x, FRAMES), x)


def test_wrong_options_are_refused():
    for kind in ("transformer", "conv_stack"):
        with pytest.raises(ValueError, match="the options of .* wrong: \"norm\" is 'batch': input should be 'frame'"):
            new_module(Anchor("here", kind, 32), {"norm": "batch"})
    with pytest.raises(ValueError, match="20 channels cannot be divided into the 32 groups"):
        new_module(Anchor("here", "transformer", 20), {"heads": 8})
    for options in ({}, {"heads": 64}, {"head_dim": 64}):
        with pytest.raises(ValueError, match="32 channels cannot be divided into .* heads"):
            new_module(Anchor("here", "transformer", 32), options)
    for options in ({"heads": -1}, {"heads": 10**9}, {"heads": 1.5}, {"heads": True}, {"depth": 3}):
        with pytest.raises(ValueError, match='the options of "transformer" are wrong'):
            new_module(Anchor("here", "transformer", 32), options)
