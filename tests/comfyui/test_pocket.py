"""The shipped pocket files in the real ComfyUI, against the code that trained them."""

import importlib
import logging
from dataclasses import replace
from typing import Any

import comfy.utils
import folder_paths
import pytest
import torch
from emu_video.host.injection import inject
from emu_video.host.pocket import UNET_CONFIG, PocketUNet
from emu_video.pocket.model.autoencoder import Autoencoder, widen
from emu_video.pocket.model.denoiser import Denoiser
from emu_video.pocket.model.text_encoder import TextEncoder, Vocabulary, pad_tokens
from emu_video.pocket.model.unet import UNet, UNetShape, plain_attention
from emu_video.pocket.recipe import RECIPE
from emu_video.pocket.shipped import CHECKPOINT, VIDEO_LAYERS, WEIGHTS
from emu_video.pocket.stages.export import export
from emu_video.pocket.stages.layers import new_layers
from emu_video.pocket.stages.run import Run
from emu_video.temporal_layers.backbones import backbone_of, identify_base
from emu_video.temporal_layers.files import load_layers
from emu_video.temporal_layers.info import LayersInfo
from emu_video.temporal_layers.noise import Discrete

OLD_AUTOENCODER = replace(RECIPE.stages["autoencoder"], latent_channels=4, width=32)
VERSIONS = {
    "pocket": replace(
        RECIPE,
        name="pocket",
        base="pocket",
        shape=UNetShape(),
        stages={**RECIPE.stages, "autoencoder": OLD_AUTOENCODER},
    ),
    "pocket2": RECIPE,
}
"""The first version is no longer included, but its files still load."""


@pytest.fixture(scope="module")
def state_dict():
    return comfy.utils.load_torch_file(str(CHECKPOINT))


def load_checkpoint(name):
    return pack_nodes().CheckpointLoaderSimple().load_checkpoint(name)


def pack_nodes() -> Any:
    """ComfyUI's own `nodes` module."""
    return importlib.import_module("nodes")


def part(state_dict, prefix):
    return {k.removeprefix(prefix): v.float() for k, v in state_dict.items() if k.startswith(prefix)}


@pytest.fixture(scope="module")
def loaded(pack):
    return load_checkpoint(CHECKPOINT.name)


def test_stock_loader_takes_the_file_without_a_warning(pack, caplog):
    with caplog.at_level(logging.WARNING):
        model, clip, vae = load_checkpoint(CHECKPOINT.name)
    assert [r.getMessage() for r in caplog.records] == []
    assert identify_base(model.model.diffusion_model) == RECIPE.base
    assert model.get_model_object("model_sampling").zsnr
    assert vae.spacial_compression_encode() == 8 and vae.latent_channels == 16


def test_the_files_are_small_and_fit_each_other():
    assert sum(file.stat().st_size for file in WEIGHTS.rglob("*.safetensors")) <= 30e6
    _, info = load_layers(VIDEO_LAYERS)
    assert (info.base, info.role, info.frames, info.conditioning_channels) == (RECIPE.base, "video", 8, 17)
    assert info.prediction == "v" and info.zero_terminal_snr


@pytest.mark.parametrize("version", VERSIONS)
def test_layers_know_both_versions(version):
    recipe = VERSIONS[version]
    assert identify_base(UNet(recipe.shape)) == recipe.base
    channels = backbone_of(recipe.base).latent_channels
    assert channels == recipe.shape.latent_channels == recipe.stages["autoencoder"].latent_channels


@pytest.mark.parametrize("text", ["", "a red circle moving right", "a big blue star at the top on a white background"])
def test_text_encoder_is_the_trained_one(loaded, state_dict, text):
    encoder = TextEncoder(len(Vocabulary()))
    encoder.load_state_dict(part(state_dict, "cond_stage_model.transformer."))
    features, pooled = encoder(torch.tensor([pad_tokens(Vocabulary().encode(text))]))
    clip = loaded[1]
    out = clip.encode_from_tokens(clip.tokenize(text), return_dict=True)
    assert (out["cond"] - features).abs().max() < 1e-5
    assert (out["pooled_output"] - pooled).abs().max() < 1e-5


def test_prompt_weights_and_unknown_words(loaded, caplog):
    clip = loaded[1]

    def encode(text):
        return clip.encode_from_tokens(clip.tokenize(text), return_dict=True)["cond"]

    plain = encode("a red circle")
    assert not torch.allclose(plain, encode("a (red:1.5) circle"))
    assert torch.allclose(plain, encode("a (red:1.0) circle"), atol=1e-6)
    with caplog.at_level(logging.WARNING):
        encode("a red unicorn")
    assert "unicorn" in caplog.text
    assert encode("red " * 60).shape == plain.shape


def test_unet_is_the_trained_one(loaded, state_dict):
    """ComfyUI's network and the one that was trained: the same keys, and the same output with the same attention."""
    weights = part(state_dict, "model.diffusion_model.")
    weights.pop("emu_video_pocket")
    unet = UNet(RECIPE.shape)
    unet.load_state_dict(weights)
    generator = torch.Generator().manual_seed(0)
    x, context, y = (torch.randn(s, generator=generator) for s in ((2, 16, 16, 16), (2, 32, 128), (2, 256)))
    t = torch.tensor([999.0, 300.0])
    entering = []

    def listen(h, skip, _):
        entering.append(h.clone())
        return h, skip

    def attention(_, q, k, v, heads, **__):
        return plain_attention(q, k, v, heads)

    options = {"optimized_attention_override": attention, "patches": {"output_block_patch": [listen]}}
    theirs = PocketUNet(**UNET_CONFIG | {"in_channels": 16, "out_channels": 16}).to(memory_format=torch.channels_last)
    theirs.load_state_dict(weights)
    ours, features = unet(x, t, context, y)
    assert torch.equal(ours, theirs(x, t, context=context, y=y, transformer_options=options))
    assert len(features) == len(entering) == 4 and all(map(torch.equal, features, entering))
    assert tuple(f.shape[1] for f in features) == unet.feature_channels
    loaded_unet = loaded[0].model.diffusion_model
    assert set(loaded_unet.state_dict()) == set(unet.state_dict())
    assert (ours - loaded_unet(x, t, context=context, y=y)).abs().max() < 1e-4 * ours.abs().max()


def test_autoencoder_is_the_trained_one(loaded, state_dict):
    weights = part(state_dict, "first_stage_model.")
    ours = Autoencoder.of({k: v for k, v in weights.items() if k.startswith("taesd")})
    picture = torch.rand(2, 128, 128, 3, generator=torch.Generator().manual_seed(0))
    latents = loaded[2].encode(picture)
    assert (latents - ours.encode(picture.movedim(-1, 1))).abs().max() < 1e-4
    decoded = ours.decode(latents).movedim(1, -1).clamp(0, 1)
    assert (loaded[2].decode(latents) - decoded).abs().max() < 1e-4


def test_a_saved_checkpoint_loads_again(loaded, pack, tmp_path, monkeypatch):
    import comfy.sd

    path = tmp_path / "again.safetensors"
    comfy.sd.save_checkpoint(str(path), *loaded)
    monkeypatch.setattr(folder_paths, "get_full_path_or_raise", lambda *_: str(path))
    model, clip, vae = load_checkpoint(path.name)
    for key, value in loaded[0].model.diffusion_model.state_dict().items():
        assert torch.equal(model.model.diffusion_model.state_dict()[key], value), key
    assert clip.tokenize("a red circle") == loaded[1].tokenize("a red circle")
    latents = torch.randn(1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(vae.decode(latents), loaded[2].decode(latents), atol=2e-3)


@pytest.mark.parametrize("version", VERSIONS)
def test_both_versions_load(version, pack, tmp_path, monkeypatch):
    """Random weights: checkpoint and layers in ComfyUI give what torch gives. The first autoencoder is made wider."""
    torch.manual_seed(0)
    recipe = VERSIONS[version]
    stage = recipe.stages["autoencoder"]
    channels = recipe.shape.latent_channels
    with torch.inference_mode(False):
        run = Run(tmp_path / "run", recipe)
        narrow = Autoencoder(stage.width, stage.latent_channels)
        denoiser = Denoiser(recipe.shape)
        torch.nn.init.normal_(denoiser.unet.out[2].weight, std=0.02)
        for name in ("autoencoder", "decoder"):
            run.save(name, narrow.state_dict())
        run.save("text", denoiser.text.state_dict())
        run.save("image", denoiser.state_dict())
        (path,) = export(run, tmp_path)
    assert widen(narrow.state_dict())["taesd_encoder.1.conv.0.weight"].shape == (64, 64, 3, 3)
    monkeypatch.setattr(folder_paths, "get_full_path_or_raise", lambda *_: str(path))
    model, clip, vae = load_checkpoint(path.name)
    network = model.model.diffusion_model
    assert identify_base(network) == recipe.base and vae.latent_channels == channels
    assert model.get_model_object("latent_format").latent_channels == channels
    picture = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(0))
    latents = vae.encode(picture)
    assert latents.shape == (1, channels, 16, 16)
    assert (latents - run.autoencoder().encode(picture.movedim(-1, 1))).abs().max() < 1e-4
    tokens = torch.tensor([pad_tokens(Vocabulary().encode("a red circle"))])
    trained = run.image_model()
    context, pooled = trained.encode(tokens)
    t = torch.tensor([500.0])
    with torch.no_grad():
        ours, _ = trained.unet(latents, t, context, pooled)
    theirs = network(latents, t, context=context, y=pooled)
    assert ours.abs().max() > 1e-3 and (ours - theirs).abs().max() < 1e-4 * ours.abs().max()
    positive, negative = (clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in ("a red circle", ""))
    empty = pack_nodes().EmptyLatentImage().generate(128, 128, 1)[0]
    sampled = pack_nodes().KSampler().sample(model, 1, 2, 3.0, "euler", "simple", positive, negative, empty)[0]
    assert sampled["samples"].shape == (1, channels, 16, 16) and sampled["samples"].isfinite().all()
    layers = new_layers(run, "video_pretraining", trained)
    assert layers.conditioning_channels == channels + 1
    info = LayersInfo(
        base=recipe.base, role="video", anchors=layers.anchors, frames=8, fps=8.0, conditioning_channels=channels + 1,
        noise=Discrete(prediction="v", zero_terminal_snr=True), training={},
    )  # fmt: skip
    video_model = inject(model, layers.state_dict(), info, "layers.safetensors", 0)
    first = pack["EmuVideoFirstFrame"].execute(video_model, vae, picture, positive, negative, 8).result
    video = pack["EmuVideoSampler"].execute(video_model, *first[:4], 3, 2, 2.0, 1.0, 0.0, 0.0).result[0]
    assert video["samples"].shape == (8, channels, 16, 16) and video["samples"].isfinite().all()
