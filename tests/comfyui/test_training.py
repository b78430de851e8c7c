"""Training on a MODEL as nodes do it, inside ComfyUI's inference mode."""

import logging
import shutil
from dataclasses import replace
from functools import partial

import comfy.model_management
import pytest
import torch
from emu_video.host.injection import check_layers, inject
from emu_video.host.memory import GIB
from emu_video.host.trainable_model import trainable
from emu_video.host.training import train_recipe
from emu_video.host.training_memory import activations_of, memory_estimate
from emu_video.temporal_layers.backbones import Anchor
from emu_video.temporal_layers.files import load_layers
from emu_video.temporal_layers.layers import TemporalLayers
from emu_video.temporal_layers.noise import Discrete
from emu_video.tests.comfyui import tiny
from emu_video.training.clips import MemoryClips
from emu_video.training.recipe import parse
from safetensors.torch import load_file

FEW = {"steps": 4, "batch": 2, "warmup": 1, "learning_rate": 1e-3, "log_every": 2, "check_every": 2, "save_every": 2,
       "gradient_checkpointing": False, "save_as": "float32"}  # fmt: skip


def recipe(**changes):
    return parse({**FEW, **changes})


def clips(count=4, frames=tiny.FRAMES, channels=4):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(count, 1, channels, 8, 8, generator=generator)
    latents = latents + 0.1 * torch.arange(frames)[:, None, None, None]
    texts = [{"cross_attn": torch.randn(7, tiny.CONTEXT, generator=generator)} for _ in range(count)]
    return MemoryClips(latents, texts, {"cross_attn": torch.zeros(7, tiny.CONTEXT)}, fps=8.0, key="test")


@pytest.fixture(autouse=True)
def training_mode_ends():
    yield
    assert not comfy.model_management.in_training


def test_the_model_is_unharmed_and_the_layers_play(model, tmp_path):
    before, plain = tiny.weights_hash(model), tiny.sample(model)
    loaded = list(comfy.model_management.current_loaded_models)
    trained = train_recipe(model, recipe(), clips(), tmp_path, echo=False)
    assert comfy.model_management.current_loaded_models == loaded
    assert tiny.weights_hash(model) == before and torch.equal(tiny.sample(model), plain)
    assert not trained.stopped and trained.file == tmp_path / "motion.safetensors"
    state_dict, info = load_layers(trained.file)
    assert all(torch.equal(state_dict[key], weight) for key, weight in trained.state_dict.items())
    assert info.training["steps"] == 4 and info.training["base"]["name"] == "pocket"
    video = tiny.sample(inject(model, state_dict, info, "trained"))
    assert video.isfinite().all() and not torch.equal(video, plain)


def test_a_compiler_that_fails_is_told_with_advice(model, tmp_path, monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("no working C++ compiler")

    plain = tiny.sample(model)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=broken))
    with pytest.raises(ValueError, match=r"torch.compile failed \(.*C\+\+ compiler\). Set compile to false"):
        train_recipe(model, recipe(compile=True), clips(), tmp_path, echo=False)
    assert torch.equal(tiny.sample(model), plain)


def test_compiled_training_has_the_same_losses(model, tmp_path, monkeypatch):
    eager = train_recipe(model, recipe(), clips(), tmp_path / "eager", echo=False)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    compiled = train_recipe(model, recipe(compile=True), clips(), tmp_path / "compiled", echo=False)
    for key, weight in eager.state_dict.items():
        torch.testing.assert_close(compiled.state_dict[key], weight, rtol=1e-4, atol=1e-5)


def test_fresh_layers_start_as_the_image_model(model):
    state_dict, info = tiny.temporal(model, fresh=True)
    with torch.inference_mode(False):
        layers = TemporalLayers(info.anchors, info.conditioning_channels)
        layers.load_state_dict({key: weight.clone() for key, weight in state_dict.items()})
    with trainable(model, layers, checkpointing=False) as network:
        x, t = torch.randn(1, tiny.FRAMES, *tiny.LATENT), torch.tensor([500])
        text = {"cross_attn": torch.randn(7, tiny.CONTEXT)}
        out = network(x, t, torch.zeros(1, tiny.FRAMES, 5, 8, 8), [text])[0].detach()
    unet = model.model.diffusion_model
    expected = unet(x[0], torch.full((tiny.FRAMES,), 500.0), context=text["cross_attn"].expand(tiny.FRAMES, -1, -1))
    assert (out - expected).abs().max() < 1e-5 * expected.abs().max()


def test_gradient_checkpointing_changes_nothing_but_memory(model):
    state_dict, info = tiny.temporal(model)
    gradients, outputs = [], []
    for checkpointing in (False, True):
        with torch.inference_mode(False):
            layers = TemporalLayers(info.anchors, info.conditioning_channels)
            layers.load_state_dict({key: weight.clone() for key, weight in state_dict.items()})
        with trainable(model, layers, checkpointing=checkpointing) as network:
            generator = torch.Generator().manual_seed(0)
            x = torch.randn(2, tiny.FRAMES, *tiny.LATENT, generator=generator)
            known = torch.randn(2, tiny.FRAMES, 5, 8, 8, generator=generator)
            text = [{"cross_attn": torch.randn(7, tiny.CONTEXT, generator=generator)} for _ in range(2)]
            out = network(x, torch.tensor([10, 900]), known, text)
            out.square().mean().backward()
            assert all(p.grad is None for p in network.unet.parameters())
        outputs.append(out.detach())
        gradients.append([p.grad for p in layers.parameters()])
    assert torch.equal(*outputs)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(*gradients, strict=True))


def test_given_layers_start_with_their_own_output(video_model, tmp_path):
    info = check_layers(video_model)
    weights = tiny.temporal(video_model)[0]
    trained = train_recipe(
        video_model, recipe(start="given", learning_rate=0.0), clips(), tmp_path, given=(weights, info), echo=False
    )
    assert all(torch.equal(trained.state_dict[key], weight) for key, weight in weights.items())
    trained = train_recipe(
        video_model, recipe(start="given"), clips(), tmp_path / "2", given=(weights, info), echo=False
    )
    assert not all(torch.equal(trained.state_dict[key], weight) for key, weight in weights.items())


def test_stopped_runs_go_on(model, tmp_path):
    whole = train_recipe(model, recipe(), clips(), tmp_path / "whole", echo=False)
    seen = []
    cut = train_recipe(model, recipe(), clips(), tmp_path / "cut", echo=False,
                       on_step=lambda *_: seen.append(1), should_stop=lambda: len(seen) == 1)  # fmt: skip
    assert cut.stopped and cut.info.training["steps"] == 1
    resumed = train_recipe(model, recipe(), clips(), tmp_path / "cut", echo=False)
    assert all(torch.equal(resumed.state_dict[key], weight) for key, weight in whole.state_dict.items())


def test_the_extra_convolution_as_a_copy(model, tmp_path):
    trained = train_recipe(model, recipe(extra_convolution="copy", learning_rate=0.0), clips(), tmp_path, echo=False)
    first = model.model.diffusion_model.input_blocks[0][0].weight
    assert (
        torch.equal(trained.state_dict["input_blocks.0.0.extra.weight"][:, :4], first)
        and trained.state_dict["input_blocks.0.0.extra.weight"][:, 4:].eq(0).all()
    )


def test_attention_alone(model, tmp_path):
    trained = train_recipe(model, recipe(train="attention"), clips(), tmp_path, echo=False)
    kinds = [anchor.kind for anchor in trained.info.anchors]
    assert kinds.count("attention") == 4 and kinds.count("conv") == 1


def test_half_precision(model, tmp_path):
    trained = train_recipe(model, recipe(precision="bfloat16", save_as="float16"), clips(), tmp_path, echo=False)
    assert {w.dtype for w in load_layers(trained.file)[0].values()} == {torch.float16}
    assert {w.dtype for w in trained.state_dict.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": "sdxl"}, "is for sdxl, but the model is pocket: use a sdxl checkpoint"),
        ({"start": "given"}, "but there are none: connect the model of Load Temporal Layers"),
        ({"prediction": "eps"}, "Stage motion trains layers for eps, but this pocket checkpoint predicts v"),
        ({"frames": 8}, "stage motion is for clips of 8 frames, the dataset has 4"),
        ({"dataset": "hq"}, "uses the dataset hq"),
    ],
)
def test_what_does_not_fit_is_a_sentence(model, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train_recipe(model, recipe(**changes), clips(), tmp_path, echo=False)
    assert not list(tmp_path.iterdir())


def test_layers_for_eps_are_not_trained_on_a_checkpoint_for_v(video_model, tmp_path):
    state_dict, info = tiny.temporal(video_model)
    given = state_dict, replace(info, noise=Discrete(**info.betas, prediction="eps"))
    with pytest.raises(ValueError, match="Stage motion trains layers for eps, but this pocket checkpoint predicts v"):
        train_recipe(video_model, recipe(start="given"), clips(), tmp_path, given=given, echo=False)
    changed = recipe(start="given", prediction="v", steps=1)
    trained = train_recipe(video_model, changed, clips(), tmp_path, given=given, echo=False)
    assert trained.info.prediction == "v"


def test_a_lora_on_the_checkpoint_is_another_run(model, tmp_path):
    train_recipe(model, recipe(), clips(), tmp_path, echo=False)
    changed = model.clone()
    key = "diffusion_model.out.2.weight"
    changed.add_patches({key: (torch.ones_like(model.model.state_dict()[key]),)}, 0.1)
    with pytest.raises(ValueError, match="belongs to another run: base was"):
        train_recipe(changed, recipe(), clips(), tmp_path, echo=False)


def test_inpainting_checkpoints_are_refused(tmp_path):
    with pytest.raises(ValueError, match="inpainting"):
        train_recipe(tiny.checkpoint(in_channels=9), recipe(), clips(), tmp_path, echo=False)


def test_latents_of_another_vae_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="latents have 16 channels, the model takes 4"):
        train_recipe(model, recipe(), clips(channels=16), tmp_path, echo=False)


def test_distilled_checkpoints_are_warned_of(model, tmp_path, caplog):
    load = model.cached_patcher_init[0]
    model.cached_patcher_init = (lambda path, disable_dynamic=False: load(), ("/models/dream-LCM.safetensors",))
    with caplog.at_level(logging.WARNING):
        train_recipe(model, recipe(steps=1), clips(), tmp_path, echo=False)
    assert "dream-LCM.safetensors looks like a distilled checkpoint" in caplog.text
    assert "Fresh temporal layers with 4 clips and 1 steps will hardly move" in caplog.text


def test_a_model_without_a_file_says_so(model, tmp_path):
    model.cached_patcher_init = None
    with pytest.raises(ValueError, match="load it with Load Checkpoint or Load Diffusion Model"):
        train_recipe(model, recipe(), clips(), tmp_path, echo=False)


def test_too_little_memory_is_said_before(model, tmp_path, monkeypatch):
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda *_: 1e6)
    with pytest.raises(ValueError, match=r"Training needs about .* GiB .*gradient_checkpointing true, precision"):
        train_recipe(model, recipe(), clips(), tmp_path, echo=False)


def test_memory_estimate_falls_with_what_the_message_says(model):
    info = tiny.temporal(model)[1]
    sizes = [
        memory_estimate(model, (r := recipe(**{"gradient_checkpointing": False, **c})), r.stages[0], info, clips())[0]
        for c in ({}, {"gradient_checkpointing": True}, {"precision": "bfloat16"}, {"optimiser": "adamw8bit"})
    ]
    assert all(size < sizes[0] for size in sizes[1:])


@pytest.mark.parametrize(
    ("base", "checkpointing", "measured"),
    [("sd15", False, 28.1), ("sd15", True, 3.6), ("sdxl", False, 38.8), ("sdxl", True, 3.6)],
)
def test_the_activations_are_those_of_a_gpu(base, checkpointing, measured):
    """GiB on an H100: 16 frames of 512 pixels in bfloat16, the peak of docs/training.md without weights and moments."""
    stage = recipe(precision="bfloat16", gradient_checkpointing=checkpointing).stages[0]
    assert activations_of(base, stage, 16 * 64 * 64) / GIB == pytest.approx(measured, rel=0.1)


def motion_modules(model):
    """Random motion modules, as AnimateDiff's, on the checkpoint's transformers."""
    anchors = tuple(
        Anchor(a.name, "transformer", a.channels) for a in tiny.temporal(model)[1].anchors if a.kind == "attention"
    )
    options = {"transformer": {"heads": 4, "positions": 32}}
    info = replace(tiny.temporal(model)[1], anchors=anchors, conditioning_channels=0, modules=options, family="a test")
    state_dict = TemporalLayers.of(info).fresh_state_dict()
    generator = torch.Generator().manual_seed(3)
    return {k: w + 0.05 * torch.randn(w.shape, generator=generator) for k, w in state_dict.items()}, info


def test_public_layers_are_trained_in_place(model, tmp_path):
    given = motion_modules(model)
    same = train_recipe(
        model, recipe(start="given", learning_rate=0.0), clips(), tmp_path / "0", given=given, echo=False
    )
    assert all(torch.equal(same.state_dict[key], weight) for key, weight in given[0].items())
    trained = train_recipe(model, recipe(start="given"), clips(), tmp_path / "1", given=given, echo=False)
    state_dict, info = load_layers(trained.file)
    assert info.modules == given[1].modules and info.conditioning_channels == 0 and info.family == "a test"
    assert any(not torch.equal(state_dict[key], weight) for key, weight in given[0].items())
    assert tiny.sample(inject(model, state_dict, info, "trained")).isfinite().all()
    with pytest.raises(ValueError, match="The clips have 40 frames, these temporal layers .* at most 32"):
        train_recipe(model, recipe(start="given"), clips(frames=40), tmp_path / "2", given=given, echo=False)


def test_low_rank_trains_a_motion_lora(model, tmp_path):
    given = motion_modules(model)
    trained = train_recipe(
        model, recipe(start="given", low_rank=2, average_decay=0.0), clips(), tmp_path, given=given, echo=False
    )
    changed = {key for key, weight in given[0].items() if not torch.equal(trained.state_dict[key], weight)}
    assert changed and all(".attention" in key and key.endswith("weight") for key in changed)
    for key in changed:
        difference = trained.state_dict[key] - given[0][key]
        assert torch.linalg.matrix_rank(difference, rtol=1e-3) <= 2
    assert load_layers(trained.file)[0].keys() == given[0].keys()
    with pytest.raises(ValueError, match="low_rank is for motion modules"):
        train_recipe(
            model, recipe(start="given", low_rank=2), clips(), tmp_path / "2", given=tiny.temporal(model), echo=False
        )


PRIOR = {"start": "given", "prior_prompts": ["a {red|blue} ball moves {left|right}"], "prior_clips": 3,
         "sample_steps": 2}  # fmt: skip


def encode(text):
    generator = torch.Generator().manual_seed(len(text))
    return {"cross_attn": torch.randn(7, tiny.CONTEXT, generator=generator)}


def test_videos_of_known_motions_are_trained_on(video_model, tmp_path):
    given = tiny.temporal(video_model)
    before, video = tiny.weights_hash(video_model), tiny.sample(video_model)
    trained = train_recipe(video_model, recipe(**PRIOR), clips(), tmp_path, given=given, encode=encode, echo=False)
    assert tiny.weights_hash(video_model) == before and torch.equal(tiny.sample(video_model), video)
    assert trained.info.training["clips"] == 4 + 3
    files = sorted(tmp_path.glob("prior-*/*.safetensors"))
    latents = torch.stack([load_file(file)["latents"] for file in files])
    assert latents.shape == (3, tiny.FRAMES, *tiny.LATENT) and latents.isfinite().all()
    assert latents.std(1).mean() > 0.01 and not torch.equal(latents[0], latents[1])
    written = [file.stat().st_mtime_ns for file in files]
    again = train_recipe(
        video_model, recipe(**PRIOR, steps=6), clips(), tmp_path, given=given, encode=encode, echo=False
    )
    assert [file.stat().st_mtime_ns for file in files] == written and again.info.training["steps"] == 6


def test_videos_of_known_motions_are_resumed(video_model, tmp_path):
    given = tiny.temporal(video_model)
    options = {"given": given, "encode": encode, "echo": False}
    whole = train_recipe(video_model, recipe(**PRIOR), clips(), tmp_path / "whole", **options)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        train_recipe(video_model, recipe(**PRIOR), clips(), tmp_path / "cut", should_stop=lambda: True, **options)
    (file,) = (tmp_path / "cut").glob("*/*")
    written = file.stat().st_mtime_ns
    resumed = train_recipe(video_model, recipe(**PRIOR), clips(), tmp_path / "cut", **options)
    assert file.name == "00000.safetensors" and file.stat().st_mtime_ns == written
    assert all(torch.equal(resumed.state_dict[key], weight) for key, weight in whole.state_dict.items())


def test_videos_of_known_motions_need_the_same_prediction(video_model, tmp_path):
    state_dict, info = tiny.temporal(video_model)
    other = {"prediction": "v", "zero_terminal_snr": not info.zero_terminal_snr}
    with pytest.raises(ValueError, match=f"predicted before, {info.prediction}, but stage motion trains them for anot"):
        train_recipe(video_model, recipe(**PRIOR, **other), clips(), tmp_path, given=(state_dict, info), encode=encode)


def test_other_sampling_steps_make_other_videos(video_model, tmp_path):
    for steps in (2, 3):
        changed = recipe(**PRIOR | {"sample_steps": steps})
        given = tiny.temporal(video_model)
        train_recipe(video_model, changed, clips(), tmp_path / "run", given=given, encode=encode, echo=False)
        shutil.move(tmp_path / "run" / "motion.pt", tmp_path / "motion.pt")
        (tmp_path / "run" / "motion.safetensors").unlink()
    assert len(list((tmp_path / "run").glob("prior-*"))) == 2


def test_known_motions_need_a_text_encoder(video_model, tmp_path):
    with pytest.raises(ValueError, match="prior_prompts needs a text encoder"):
        train_recipe(video_model, recipe(**PRIOR), clips(), tmp_path, given=tiny.temporal(video_model), echo=False)
