"""Preparation of clips with ComfyUI's own models: the node, the encoders and the scores."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import comfy.clip_vision
import comfy.model_management
import comfy.sd
import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.supported_models_base
import comfy.text_encoders.sd2_clip
import comfy.utils
import folder_paths
import numpy as np
import pytest
import torch
from emu_video.diffusion.resize import downscaled
from emu_video.diffusion.schedule import Schedule
from emu_video.host import prepare as host
from emu_video.host.clip_scores import aesthetic_score, clip_score, image_embedding
from emu_video.host.fingerprint import fingerprint
from emu_video.host.training import train_recipe
from emu_video.host.training_session import encoded
from emu_video.pocket.shipped import CHECKPOINT
from emu_video.tests.comfyui import tiny
from emu_video.tests.training.prepare.videos import moving, write
from emu_video.training.clips import ShardedClips
from emu_video.training.known_frames import KnownFrames
from emu_video.training.objective import Objective
from emu_video.training.recipe import load_recipe


@pytest.fixture(scope="module")
def pocket(pack):
    """(MODEL, CLIP, VAE) of the pocket checkpoint."""
    with torch.inference_mode():
        return comfy.sd.load_checkpoint_guess_config(str(CHECKPOINT))[:3]


@pytest.fixture
def videos(tmp_path) -> Path:
    for number in range(2):
        write(tmp_path / "videos" / f"{number}.mkv", moving(8, 64, 64, seed=number), codec="ffv1", pixels="bgr0")
    (tmp_path / "videos" / "0.txt").write_text("a red circle moving right")
    return tmp_path / "videos"


@pytest.fixture
def output(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path / "output"))
    return tmp_path / "output" / "datasets"


def run(pack, pocket, folder, name="mine", **changes):
    model, clip, vae = pocket
    inputs = {"frames": 8, "fps": 8.0, "width": 64, "height": 64, "name": name} | changes
    return pack["EmuVideoPrepareClips"].execute(folder=str(folder), model=model, clip=clip, vae=vae, **inputs)


def test_node_makes_what_the_stock_nodes_make(pack, pocket, videos, output):
    """Latents are VAE Encode's, texts are CLIP Text Encode's."""
    name, sheet, report = run(pack, pocket, videos).args
    clips = ShardedClips(output / name)
    assert name == "mine" and len(clips) == 2 and clips.base["name"] == "pocket2" and "2 clips" in report
    assert sheet.ndim == 4 and sheet.shape[0] == 1 and 0 <= float(sheet.min()) < float(sheet.max()) <= 1
    model, clip, vae = pocket
    for number in range(2):
        images = torch.from_numpy(moving(8, 64, 64, seed=number)).float() / 255
        latents = model.model.process_latent_in(vae.encode(images))
        assert torch.equal(clips[number].latents, latents.half().float())
    ((embedding, more),) = clip.encode_from_tokens_scheduled(clip.tokenize("a red circle moving right"))
    assert torch.equal(clips[0].text["cross_attn"], embedding[0].half().float())
    assert torch.equal(clips[0].text["pooled_output"], more["pooled_output"][0].half().float())
    ((null, _),) = clip.encode_from_tokens_scheduled(clip.tokenize(""))
    assert torch.equal(clips.null["cross_attn"], null[0].half().float())
    assert torch.equal(clips[1].text["cross_attn"], clips.null["cross_attn"])


def test_super_resolution_is_trained_on_what_the_node_gives(pack, pocket, videos, output):
    """Latents and mask of Super-Resolution Conditioning for the smaller video are those of the trainer, bit for bit."""
    model, _, vae = pocket
    run(pack, pocket, videos, downscale=2)
    clip = ShardedClips(output / "mine")[0]
    assert clip.upsampled is not None
    known = KnownFrames(downscale=2, noise=250, exact=0.0)
    objective = Objective(Schedule.from_betas(zero_terminal_snr=True), known=known)
    small = downscaled(torch.from_numpy(moving(8, 64, 64)).float() / 255, 2)
    layers = tiny.with_temporal_layers(
        model, conditioning_channels=17, role="super_resolution", noise_told=True, factor=2
    )
    text = [[torch.zeros(1, 32, 128), {}]]
    node, levels = partial(pack["EmuVideoSuperResolution"].execute, layers, vae, small, text, text, 2, window=8), set()
    for seed in range(3):
        trained = objective.draw(clip, torch.Generator().manual_seed(seed), t=500).conditioning
        share = trained[0, -1, 0, 0]
        level = int((objective.schedule.alphas_cumprod - share).abs().argmin())
        levels.add(level)
        sampled, clean = (node(each, seed).args[0][0][0][1]["noise_concat"] for each in (level, 0))
        assert torch.equal(sampled[:, -1], trained[:, -1])
        assert torch.equal(clean[:, :-1].half().float(), clip.upsampled)
        signal = objective.schedule.alpha(level)  # the noise itself has another seed
        for each in (trained, sampled):
            noise = (each[:, :-1] - signal * clip.upsampled) / objective.schedule.sigma(level)
            assert abs(noise.std() - 1) < 0.1
    assert len(levels) == 3


def test_a_dataset_without_a_smaller_version_is_refused(pack, pocket, videos, output):
    run(pack, pocket, videos)
    clips, recipe = ShardedClips(output / "mine"), load_recipe("super_resolution")
    with pytest.raises(ValueError, match="by factor 2, but the clips are of full size alone: prepare"):
        train_recipe(pocket[0], recipe, clips, output)


def test_cancel_stops_the_node_and_the_next_run_goes_on(pack, pocket, videos, output):
    comfy.model_management.interrupt_current_processing(True)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        run(pack, pocket, videos)
    assert not (output / "mine" / "index.json").exists()
    run(pack, pocket, videos)
    assert len(ShardedClips(output / "mine")) == 2


def test_progress_bar_moves_to_its_end(pack, pocket, videos, output, monkeypatch):
    seen = []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, *_, **__: seen.append((value, total)))
    run(pack, pocket, videos)
    assert seen[-1] == (3000, 3000) and [value for value, _ in seen] == sorted(value for value, _ in seen)


def test_the_cache_key_follows_the_folder(pack, videos):
    key = pack["EmuVideoPrepareClips"].fingerprint_inputs
    before = key(folder=str(videos))
    assert key(folder=str(videos)) == before
    (videos / "1.txt").write_text("a caption")
    assert key(folder=str(videos)) != before


@pytest.mark.parametrize("name", ["", "..", "../outside", "/tmp/elsewhere"])
def test_names_that_lead_out_of_the_output_folder_are_refused(pack, pocket, videos, output, name):
    with pytest.raises(ValueError, match="is not a valid name for a dataset"):
        run(pack, pocket, videos, name=name)


def test_relative_folders_are_in_the_input_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path))
    assert host.source_folder("clips") == tmp_path / "clips"
    assert host.source_folder(str(tmp_path / "x")) == tmp_path / "x"
    with pytest.raises(ValueError, match="folder is empty"):
        host.source_folder(" ")
    assert host.stamp("") == ""


def test_a_missing_part_of_the_checkpoint_is_named(pack, pocket, videos, output):
    model, clip, vae = pocket
    with pytest.raises(ValueError, match="There is no CLIP"):
        run(pack, (model, None, vae), videos)
    with pytest.raises(ValueError, match="There is no VAE"):
        run(pack, (model, clip, None), videos)


def test_parentheses_in_captions_are_no_weights(pocket):
    _, clip, _ = pocket
    ((weighted,),) = [list(clip.tokenize("a (red:1.9) circle").values())[0]]
    assert {weight for _, weight in weighted} != {1.0}
    assert {weight for window in host.tokens(clip, "a (red:1.9) circle")["pocket"] for _, weight in window} == {1.0}
    prompt = encoded(clip, "a (red:1.9) circle")["cross_attn"]  # of a recipe's samples and prior videos
    ((caption, _),) = clip.encode_from_tokens_scheduled(host.tokens(clip, "a (red:1.9) circle"))
    assert torch.equal(prompt, caption[0])


LONG = "a red circle, " * 30  # more than one window of 75 tokens


@pytest.mark.parametrize("family", ["SD1.5", "SD2.1", "SDXL"])
def test_texts_of_every_family_are_those_of_clip_text_encode(pack, pocket, videos, output, family):
    """Long captions have several windows; shorter ones are repeated to their length, as ComfyUI does in a batch."""
    model, _, vae = pocket
    clip = small_clip(family)
    (videos / "1.txt").write_text(LONG)
    run(pack, (model, clip, vae), videos)
    clips = ShardedClips(output / "mine")
    assert [clips.caption(number) for number in range(2)] == ["a red circle moving right", LONG.strip()]
    texts = "a red circle moving right", LONG.strip(), ""
    for found, text in zip((clips[0].text, clips[1].text, clips.null), texts, strict=True):
        ((embedding, more),) = clip.encode_from_tokens_scheduled(clip.tokenize(text))
        expected = embedding[0].repeat(154 // embedding.shape[1], 1)
        assert expected.shape[0] == 154 and torch.equal(found["cross_attn"], expected.half().float())
        assert torch.equal(found["pooled_output"], more["pooled_output"][0].half().float())


def small_clip(family: str, width: int = 32) -> comfy.sd.CLIP:
    """The text encoders of a family, by ComfyUI's own classes, narrow and with random weights."""
    narrow = {"hidden_size": width, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 3}
    target = {
        "SD1.5": (comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel),
        "SD2.1": (comfy.text_encoders.sd2_clip.SD2Tokenizer, comfy.text_encoders.sd2_clip.SD2ClipModel),
        "SDXL": (comfy.sdxl_clip.SDXLTokenizer, comfy.sdxl_clip.SDXLClipModel),
    }[family]
    options = {f"clip_{name}_model_config": narrow for name in "lgh"}
    clip = comfy.sd.CLIP(comfy.supported_models_base.ClipTarget(*target), model_options=options)
    generator = torch.Generator().manual_seed(0)
    for weight in clip.cond_stage_model.parameters():
        weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2)
    return clip


def test_fingerprint_tells_finetunes_and_loras_apart(pocket):
    module = torch.nn.Linear(300, 40)
    before = fingerprint(module)
    assert fingerprint(module) == before
    with torch.no_grad():
        module.weight.mul_(1.001)
    assert fingerprint(module) != before
    _, clip, _ = pocket
    clone = clip.clone()
    key = next(iter(clone.patcher.model_state_dict()))
    shape = clone.patcher.model_state_dict()[key].shape
    clone.patcher.add_patches({key: (torch.ones(shape),)}, 0.5)
    assert fingerprint(clone.cond_stage_model, clone.patcher) != fingerprint(clip.cond_stage_model, clip.patcher)


def test_fingerprint_is_the_same_before_and_after_a_lora_is_applied(pocket):
    model, clip, _ = pocket
    for plain, name in ((model, "diffusion_model"), (clip.patcher, "")):
        module = plain.model.get_submodule(name)
        patched, before = plain.clone(), fingerprint(module, plain)
        assert before == fingerprint(module)
        key = next(key for key in module.state_dict() if key.endswith("weight"))
        patched.add_patches({f"{name}.{key}".strip("."): (torch.ones_like(module.state_dict()[key]),)}, 0.1)
        expected = fingerprint(module, patched)
        assert expected != before
        comfy.model_management.load_models_gpu([patched], force_full_load=True)
        try:
            assert fingerprint(module) != before
            assert fingerprint(module, patched) == expected and fingerprint(module, plain) == before
        finally:
            patched.unpatch_model()
            comfy.model_management.unload_all_models()


CLIP_L = {
    "hidden_act": "quick_gelu", "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2,
    "num_hidden_layers": 2, "projection_dim": 32, "num_channels": 3, "image_size": 28, "patch_size": 14,
    "model_type": "clip_vision_model",
}  # fmt: skip


@pytest.fixture
def vision():
    """A small CLIP vision model with random weights, of ComfyUI's own class."""
    model = comfy.clip_vision.ClipVisionModel(CLIP_L)
    generator = torch.Generator().manual_seed(0)
    for weight in model.model.parameters():
        weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2)
    return model


@pytest.mark.parametrize("family", ["SD2.1", "SDXL"])
def test_clip_score_is_the_cosine_of_both_embeddings(vision, family):
    clip, picture = small_clip(family), moving(1, 40, 30)[0]
    _, text = clip.encode_from_tokens(clip.tokenize("a ball"), return_pooled=True)
    expected = torch.nn.functional.cosine_similarity(image_embedding(vision, picture), text[0], dim=0)
    if family == "SDXL":  # its first encoder is as wide in this test, but lacks a projection in real files
        clip.cond_stage_model.clip_l.transformer.text_projection.weight.copy_(torch.eye(32))
    score = clip_score(vision, clip)
    assert score(picture, "a ball") == pytest.approx(float(expected), abs=1e-5)
    assert score(picture, "a ball") != score(picture, "a tree")


def test_halves_of_two_models_are_refused(vision):
    other = small_clip("SD2.1", width=64)
    with pytest.raises(ValueError, match="gives 32 numbers, but no text encoder fits it .h: 64.*clip_l.safetensors"):
        clip_score(vision, other)
    bare = small_clip("SD1.5")
    bare.cond_stage_model.clip_l.transformer.text_projection.weight.copy_(torch.eye(32))
    with pytest.raises(ValueError, match="l: 32, without its projection"):
        clip_score(vision, bare)


@pytest.mark.parametrize("prefix", ["layers.", "", "module.layers."])
def test_aesthetic_score_is_the_linear_layers(vision, prefix):
    layers = {0: torch.nn.Linear(32, 10), 2: torch.nn.Linear(10, 4), 10: torch.nn.Linear(4, 1)}
    head = {f"{prefix}{n}.{key}": value for n, layer in layers.items() for key, value in layer.state_dict().items()}
    picture = moving(1, 40, 30)[0]
    value = torch.nn.functional.normalize(image_embedding(vision, picture), dim=0)
    for layer in layers.values():
        value = layer(value)
    assert aesthetic_score(vision, head, "head.pth")(picture) == pytest.approx(float(value), abs=1e-5)


def test_other_files_are_no_aesthetic_predictors(vision):
    with pytest.raises(ValueError, match="head.pth is not an aesthetic predictor"):
        aesthetic_score(vision, {"weight": torch.ones(3)}, "head.pth")
    wide = torch.nn.Linear(768, 1).state_dict()
    with pytest.raises(ValueError, match="reads 768 numbers, but this CLIP vision model gives 32"):
        aesthetic_score(vision, {f"layers.0.{key}": value for key, value in wide.items()}, "head.pth")


def test_command_prepares_and_says_where(pack, videos, tmp_path, capsys, monkeypatch):
    from emu_video.host import prepare_command

    with torch.inference_mode(False):
        prepare_command.main(
            [str(videos), "--checkpoint", CHECKPOINT.name, "--size", "64x64", "--output", str(tmp_path / "out")]
        )
    printed = capsys.readouterr().out
    assert "2 clips of 8 frames" in printed and "contact_sheet.png" in printed
    assert json.loads((tmp_path / "out" / "index.json").read_text())["size"] == [64, 64]
    with pytest.raises(SystemExit, match="neither a file nor a name in models/checkpoints"):
        prepare_command.main([str(videos), "--checkpoint", "nothing.safetensors", "--output", str(tmp_path / "out")])
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(
        SystemExit, match=r"file.out cannot be read or written \(.*\): change its permissions, or choose"
    ):
        prepare_command.main(
            [
                str(videos),
                "--checkpoint",
                CHECKPOINT.name,
                "--size",
                "64x64",
                "--output",
                str(tmp_path / "file" / "out"),
            ]
        )

    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied", str(tmp_path / "new"))

    with monkeypatch.context() as patch, pytest.raises(SystemExit, match=r"new cannot be .* \(Permission denied\)"):
        patch.setattr(Path, "mkdir", forbidden)
        prepare_command.main(
            [str(videos), "--checkpoint", CHECKPOINT.name, "--size", "64x64", "--output", str(tmp_path / "new")]
        )
    with pytest.raises(SystemExit, match="multiples of 8"):
        prepare_command.main(
            [str(videos), "--checkpoint", CHECKPOINT.name, "--size", "63x64", "--output", str(tmp_path / "out")]
        )


def test_the_videos_of_a_still_picture_have_equal_frames(pack, pocket, tmp_path, output):
    write(tmp_path / "v" / "a.mkv", moving(1, 64, 64).repeat(8, 0), codec="ffv1", pixels="bgr0")
    run(pack, pocket, tmp_path / "v", name="still")
    latents = ShardedClips(output / "still")[0].latents
    assert np.allclose(latents[0], latents[7])
