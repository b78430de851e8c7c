"""Temporal layers on ComfyUI's own UNets: what each family offers, and that fresh layers change no bit."""

import comfy.ops
import pytest
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from emu_video.benchmarks.unets import SD15, SD21, SDXL
from emu_video.host.pocket import UNET_CONFIG, PocketUNet
from emu_video.temporal_layers.attach import attach, detach
from emu_video.temporal_layers.backbones import find_anchors, identify_base
from emu_video.temporal_layers.files import check_fits
from emu_video.temporal_layers.info import LayersInfo
from emu_video.temporal_layers.layers import TemporalLayers
from emu_video.temporal_layers.noise import Discrete

FAMILIES = {"sd15": (UNetModel, SD15), "sd21": (UNetModel, SD21), "sdxl": (UNetModel, SDXL)}
FAMILIES["pocket"] = (PocketUNet, UNET_CONFIG)

NARROW = {"model_channels": 32, "context_dim": 24}
BLOCKS = {  # the same kinds of blocks as the family's, narrow
    "sd15": (UNetModel, SD15 | NARROW | {"num_heads": 4}),
    "sd21": (UNetModel, SD21 | NARROW | {"num_head_channels": 32}),
    "sdxl": (
        UNetModel,
        SDXL
        | NARROW
        | {
            "transformer_depth": [0, 0, 1, 1, 2, 2],
            "transformer_depth_middle": 2,
            "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2],
            "num_head_channels": 32,
            "adm_in_channels": 16,
        },
    ),
    "pocket": FAMILIES["pocket"],
}
FRAMES = 3


def on_meta(base: str, **changes):
    kind, config = FAMILIES[base]
    return kind(**(config | changes), device="meta", operations=comfy.ops.disable_weight_init)


def with_random_weights(base: str, dtype: torch.dtype):
    kind, config = BLOCKS[base]
    unet = kind(**config, dtype=dtype, operations=comfy.ops.manual_cast)
    generator = torch.Generator().manual_seed(0)
    for parameter in unet.parameters():
        scale = 0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
        parameter.data = (scale * torch.randn(parameter.shape, generator=generator)).to(dtype)
    return unet


def conditions(base: str, dtype: torch.dtype, videos: int = 2):
    """x of latent, known frames and mask for `videos` clips; and the other inputs of the UNet."""
    config, generator = BLOCKS[base][1], torch.Generator().manual_seed(1)
    batch = videos * FRAMES
    x = torch.randn(batch, 9, 16, 16, generator=generator)
    context = torch.randn(batch, 7, config["context_dim"], generator=generator)
    inputs = {"context": context.to(dtype), "timesteps": torch.linspace(0, 999, batch)}
    if config.get("adm_in_channels"):
        inputs["y"] = torch.randn(batch, config["adm_in_channels"], generator=generator).to(dtype)
    return x.to(dtype), inputs


def hang(unet, layers: TemporalLayers, weights) -> TemporalLayers:
    layers.load_state_dict(weights)
    layers.frames = FRAMES
    attach(unet, layers, owner=layers)
    return layers


@pytest.mark.parametrize(
    ("base", "convs", "transformers", "blocks", "parameters"),
    [
        ("sd15", 52, 16, 16, 300_012_532),
        ("sd21", 52, 16, 16, 300_012_532),
        ("sdxl", 40, 11, 70, 234_854_772),
        ("pocket", 20, 4, 4, 1_435_380),
    ],
)
def test_anchors_of_each_family(base, convs, transformers, blocks, parameters):
    unet = on_meta(base)
    assert identify_base(unet) == base
    anchors = find_anchors(unet)
    assert [sum(a.kind == kind for a in anchors) for kind in ("conv", "attention")] == [convs, transformers]
    assert sum(a.kind == "attention" for a in find_anchors(unet, "per_block")) == blocks
    assert anchors[0].name == "input_blocks.0.0" and anchors[-1].name == "out.2"
    assert len({a.name for a in anchors}) == len(anchors)
    for anchor in anchors:
        module = unet.get_submodule(anchor.name)
        assert anchor.channels == (module.out_channels if anchor.kind == "conv" else module.in_channels)
    with torch.device("meta"):
        layers = TemporalLayers(anchors, 5)
    assert sum(p.numel() for p in layers.parameters()) == parameters


def test_layers_of_another_base_are_refused():
    for made_for in FAMILIES:
        info = LayersInfo(
            base=made_for,
            role="video",
            anchors=find_anchors(on_meta(made_for)),
            frames=8,
            fps=8.0,
            conditioning_channels=5,
            noise=Discrete(prediction="v", zero_terminal_snr=True),
        )
        for base in FAMILIES:
            if base == made_for:
                check_fits(on_meta(base), info, "layers.safetensors")
                continue
            with pytest.raises(
                ValueError, match=f"layers.safetensors contains temporal layers for {made_for}, but .* {base}"
            ):
                check_fits(on_meta(base), info, "layers.safetensors")


def test_an_inpainting_base_is_refused():
    with pytest.raises(ValueError, match=r"This sd15 UNet reads 9 channels instead of 4 .* use the plain"):
        identify_base(on_meta("sd15", in_channels=9))


def test_another_model_is_refused_with_what_was_seen():
    with pytest.raises(ValueError, match="none of sd15, sd21, sdxl, pocket .*model_channels 384, context_dim 768"):
        identify_base(on_meta("sd15", model_channels=384))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("base", BLOCKS)
def test_fresh_layers_change_no_bit(base, dtype, layout):
    unet = with_random_weights(base, dtype)
    x, inputs = conditions(base, dtype)
    x = x.to(memory_format=layout)
    plain = unet(x[:, :4].contiguous(memory_format=layout), **inputs)
    assert plain.std() > 0.01
    for attention in ("per_transformer", "per_block"):
        layers = TemporalLayers(find_anchors(unet, attention), 5, operations=comfy.ops.manual_cast)
        hang(unet, layers, layers.fresh_state_dict())
        assert torch.equal(unet(x, **inputs), plain)
        assert torch.equal(unet(x[:, :4], **inputs), plain)
        detach(unet, owner=layers)


@pytest.mark.parametrize("base", BLOCKS)
def test_trained_layers_cast_their_weights_to_the_activations(base):
    unet = with_random_weights(base, torch.float32)
    x, inputs = conditions(base, torch.float32)
    layers = TemporalLayers(find_anchors(unet), 5)
    generator = torch.Generator().manual_seed(2)
    weights = {
        key: weight + 0.1 * weight[0].numel() ** -0.5 * torch.randn(weight.shape, generator=generator)
        for key, weight in layers.fresh_state_dict().items()
    }
    plain = unet(x[:, :4], **inputs)
    hang(unet, layers, weights)
    exact = unet(x, **inputs)
    assert (exact - plain).abs().mean() > 0.01 * plain.abs().mean()

    half = TemporalLayers(layers.anchors, 5, operations=comfy.ops.manual_cast).half()
    hang(unet, half, weights)
    out = unet(x, **inputs)
    assert out.dtype == torch.float32
    assert (out - exact).norm() < 0.01 * exact.norm()

    unet = with_random_weights(base, torch.bfloat16)
    x, inputs = conditions(base, torch.bfloat16)
    hang(unet, half, weights)
    out = unet(x, **inputs)
    assert out.dtype == torch.bfloat16
    assert (out - exact).norm() < 0.1 * exact.norm()


class MotionModule(torch.nn.Module):
    """What another pack puts into a block, behind its transformer or residual block, and may leave there."""

    def __init__(self, width: int):
        super().__init__()
        self.temporal_transformer = torch.nn.Module()
        self.temporal_transformer.norm = torch.nn.GroupNorm(32, width)
        self.temporal_transformer.proj_in = torch.nn.Linear(width, width)
        self.temporal_transformer.transformer_blocks = torch.nn.ModuleList([torch.nn.Linear(width, width)])


@pytest.mark.parametrize("base", ["sd15", "sdxl"])
def test_modules_of_other_packs_in_the_blocks_change_nothing(base):
    unet = on_meta(base)
    anchors, own = find_anchors(unet), dict(unet.named_modules())
    for block in (*unet.input_blocks[1:], unet.middle_block, *unet.output_blocks):
        places = [i for i, module in enumerate(block) if type(module).__name__ in ("ResBlock", "SpatialTransformer")]
        if places:
            block.insert(places[-1] + 1, MotionModule(32))
    upsampler = {"sd15": "output_blocks.2.1.conv", "sdxl": "output_blocks.2.2.conv"}[base]
    assert upsampler in own and upsampler not in dict(unet.named_modules())  # it is one place further back
    assert identify_base(unet) == base and find_anchors(unet) == anchors
    layers = TemporalLayers(anchors, 5, operations=comfy.ops.disable_weight_init)
    attach(unet, layers, owner=layers)
    assert all("forward" in vars(own[anchor.name]) for anchor in anchors)
