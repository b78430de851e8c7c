"""Encoders for the evaluation, from files of tiny random models: shapes, one space, and files that are none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from emu_video.host.encoders import load_clip, load_image_encoder, load_video_encoder


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (20, 40, 56, 3), np.uint8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    words = ["<|startoftext|>", "<|endoftext|>", *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz")]
    words += [word.removesuffix("</w>") for word in words[2:]]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": len(words), "max_position_embeddings": 16, "eos_token_id": 1, "bos_token_id": 0}
    vision = {**sizes, "image_size": 30, "patch_size": 15}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).save_pretrained(folder)
    size = {"height": 30, "width": 30}
    CLIPImageProcessor(size={"shortest_edge": 30}, crop_size=size).save_pretrained(folder)
    return folder


def test_clip_embeds_frames_and_texts_in_one_space(clip, frames):
    image, text = load_clip(clip)
    embedded = image(frames)
    assert embedded.shape == (20, 24) and text("a red circle").shape == (24,)
    assert torch.allclose(embedded[17], image(frames[17:18])[0], atol=1e-5), "batches do not matter"
    assert not torch.allclose(text("a red circle"), text("a blue circle"))
    assert text("long " * 100).isfinite().all()


def test_video_encoder_samples_its_own_number_of_frames(tmp_path, frames):
    from transformers import VideoMAEConfig, VideoMAEImageProcessor, VideoMAEModel

    config = VideoMAEConfig(
        image_size=32,
        patch_size=16,
        num_frames=4,
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
    )
    VideoMAEModel(config).save_pretrained(tmp_path)
    size = {"height": 32, "width": 32}
    VideoMAEImageProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(tmp_path)
    embed = load_video_encoder(tmp_path)
    assert embed(frames).shape == embed(frames[:3]).shape == (24,)


def test_v_jepa_is_a_video_encoder(tmp_path, frames):
    from transformers import VJEPA2Config, VJEPA2Model, VJEPA2VideoProcessor

    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "crop_size": 32, "patch_size": 16}
    of_predictor = {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
    VJEPA2Model(VJEPA2Config(frames_per_clip=4, **sizes, **of_predictor)).save_pretrained(tmp_path)
    size = {"height": 32, "width": 32}
    VJEPA2VideoProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(tmp_path)
    embed = load_video_encoder(tmp_path)
    assert embed(frames).shape == embed(frames[:3]).shape == (24,)
    assert not torch.equal(embed(frames), embed(255 - frames))


def test_videos_that_are_too_short_for_i3d_are_a_sentence(tmp_path, frames):
    class I3D(torch.nn.Module):
        def forward(self, x, rescale: bool = False, resize: bool = False, return_features: bool = False):
            return torch.nn.functional.avg_pool3d(x, [10, 7, 7]).mean((2, 3, 4))

    torch.jit.script(I3D()).save(str(tmp_path / "i3d.pt"))
    with pytest.raises(ValueError, match="cannot embed a video of 8 frames.*--video-encoder"):
        load_video_encoder(tmp_path / "i3d.pt")(frames[:8])


def test_i3d_is_called_as_fvd_does(tmp_path, frames):
    class I3D(torch.nn.Module):
        def forward(self, x, rescale: bool = False, resize: bool = False, return_features: bool = False):
            assert rescale and resize and return_features
            return x.mean((2, 3, 4))

    torch.jit.script(I3D()).save(str(tmp_path / "i3d.pt"))
    embedded = load_video_encoder(tmp_path / "i3d.pt")(frames)
    np.testing.assert_allclose(embedded, frames.mean((0, 1, 2)), rtol=1e-4)


def test_image_encoder_is_comfyuis(monkeypatch, frames):
    import comfy.clip_vision

    class Loaded:
        def encode_image(self, pixels):
            assert pixels.max() <= 1 and pixels.shape[1:] == (40, 56, 3)
            return {"image_embeds": pixels.mean((1, 2))}

    monkeypatch.setattr(comfy.clip_vision, "load", lambda path: Loaded())
    assert load_image_encoder(Path("dino.safetensors"))(frames).shape == (20, 3)


def test_files_that_are_no_encoders_are_refused(tmp_path, clip):
    from safetensors.torch import save_file

    with pytest.raises(ValueError, match="no config.json"):
        load_clip(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_clip(tmp_path)
    with pytest.raises(ValueError, match="does not embed videos"):
        load_video_encoder(clip)
    (tmp_path / "text.pt").write_text("no TorchScript")
    with pytest.raises(ValueError, match="neither a TorchScript file nor a model folder"):
        load_video_encoder(tmp_path / "text.pt")
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="not an image encoder"):
        load_image_encoder(tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="cannot be loaded as an image encoder"):
        load_image_encoder(tmp_path / "missing.safetensors")
