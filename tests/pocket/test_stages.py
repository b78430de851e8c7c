"""Every training stage at tiny size: resume, isolation, cache keys, and what the exported files say."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from emu_video.diffusion.resize import upsampled
from emu_video.pocket import make as command
from emu_video.pocket.model.checkpoint import AUTOENCODER, SIGNATURE, UNET
from emu_video.pocket.recipe import FIRST, RECIPES, SECOND, LargeClips
from emu_video.pocket.shipped import WEIGHTS
from emu_video.pocket.stages import autoencoder, image, layers, text
from emu_video.pocket.stages.clips import latent_clips
from emu_video.pocket.stages.export import export
from emu_video.pocket.stages.large_clips import large_clips
from emu_video.pocket.stages.run import IMAGE_STAGES, LAYERS, METADATA_KEY, STAGES, Run, plain, program_key, read_made
from emu_video.pocket.world import Scenes, render_clips, sample_clips
from emu_video.temporal_layers.files import load_layers
from safetensors import safe_open
from safetensors.torch import load_file

from .tiny import tiny_recipe, tiny_run

pytestmark = pytest.mark.slow

MAKE = {
    "autoencoder": autoencoder.make,
    "text": text.make,
    "image": lambda run, **options: image.make(run, compile_model=False, **options),
    **{name: partial(layers.make, name=name) for name in STAGES if name not in IMAGE_STAGES},
}
FIRST_STAGES = (*IMAGE_STAGES, "video", "interpolation")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Run:
    """A finished run."""
    run = tiny_run(tmp_path_factory.mktemp("made"))
    assert run.stages == FIRST_STAGES
    for stage in run.stages:
        assert not run.is_done(stage)
        MAKE[stage](run, echo=False)
        assert run.is_done(stage)
    return run


@pytest.mark.parametrize("stage", FIRST_STAGES)
def test_a_stage_that_was_interrupted_ends_the_same(made, stage, tmp_path):
    run = Run(tmp_path, made.recipe)
    for before in FIRST_STAGES[: FIRST_STAGES.index(stage)]:
        run.path(before).symlink_to(made.path(before))
    stops = iter([False, True])
    MAKE[stage](run, echo=False, should_stop=lambda: next(stops))
    assert run.has_begun(stage) and not run.is_done(stage)
    torch.manual_seed(123)  # what happened in between must not matter
    MAKE[stage](run, echo=False)
    assert run.is_done(stage)
    resumed, whole = (load_file(each.path(stage)) for each in (run, made))
    assert resumed.keys() == whole.keys() and all(torch.equal(resumed[key], whole[key]) for key in whole)


def test_training_changes_nothing_in_the_package(made, tmp_path, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in WEIGHTS.rglob("*") if path.is_file()}
    monkeypatch.setattr(command, "MAKERS", {stage: lambda run: pytest.fail("made again") for stage in STAGES})
    command.make(made)
    assert before == {path: path.stat().st_mtime_ns for path in WEIGHTS.rglob("*") if path.is_file()}
    assert not list(made.folder.glob(".*"))  # no unfinished file is left


def test_exported_files_carry_the_recipe(made, tmp_path):
    checkpoint, video, interpolation = export(made, tmp_path)
    assert checkpoint.relative_to(tmp_path).as_posix() == "checkpoints/emu_video_pocket.safetensors"
    said = read_made(checkpoint)
    assert said["recipe"] == {stage: plain(getattr(made.recipe, stage)) for stage in ("autoencoder", "text", "image")}
    assert said["recipe"]["image"]["settings"]["iterations"] == 3 and said["keys"]["image"] == made.keys["image"]
    tensors = load_file(checkpoint)
    assert tensors[UNET + SIGNATURE].shape == (5, 3)
    assert tensors[f"{AUTOENCODER}taesd_decoder.1.weight"].dtype == torch.float16
    for path, role, frames, fps in ((video, "video", 8, 8.0), (interpolation, "interpolation", 13, 32.0)):
        weights, info = load_layers(path)
        assert (info.role, info.frames, info.fps, info.noise_told) == (role, frames, fps, role == "interpolation")
        assert info.training["stage"] == plain(getattr(made.recipe, role))
        assert info.training["steps"] == 3 and info.training["clips"] == 8
        assert all(tensor.dtype == torch.float16 for tensor in weights.values())


def test_layers_can_be_trained_on_a_checkpoint_file(made, tmp_path):
    checkpoint = export(made, tmp_path)[0]
    run = Run(tmp_path / "run", made.recipe, checkpoint)
    assert run.is_done("image") and not run.is_done("video")
    assert all(
        torch.equal(a, b) for a, b in zip(run.image_model().parameters(), made.image_model().parameters(), strict=True)
    )
    MAKE["video"](run, echo=False)
    assert [path.parent.name for path in export(run, tmp_path / "again")] == ["temporal_layers"]


def test_keys_change_with_everything_that_made_a_result(made, tmp_path):
    recipe = made.recipe
    other_scenes = replace(recipe.text.pictures[0].clips, scenes=Scenes(pairs=0.5))
    changes = {
        "autoencoder": {"autoencoder": replace(recipe.autoencoder, latent_noise=0.2)},
        "text": {"text": replace(recipe.text, pictures=(replace(recipe.text.pictures[0], clips=other_scenes),))},
        "image": {"image": replace(recipe.image, timesteps="uniform")},
        "video": {"video": replace(recipe.video, seed=99)},
        "interpolation": {"interpolation": replace(recipe.interpolation, near_weight=1.0)},
    }
    for number, stage in enumerate(FIRST_STAGES):
        changed = Run(tmp_path, replace(recipe, **changes[stage]))
        differs = [changed.keys[each] != made.keys[each] for each in FIRST_STAGES]
        assert differs == [False] * number + [True] * (len(FIRST_STAGES) - number)
    assert Run(tmp_path, recipe).keys == made.keys
    clips = recipe.video.clips[0]
    assert made.clips_path(clips).exists()
    assert made.clips_path(replace(clips, count=5)) != made.clips_path(clips)
    assert Run(tmp_path, replace(recipe, **changes["autoencoder"])).clips_path(clips).name not in {
        path.name for path in made.folder.iterdir()
    }


def test_a_key_of_a_program_ignores_comments_and_docstrings():
    source = 'def f(x):\n    """Doc."""\n    return x + 1\n'
    assert program_key(source) == program_key("def f(x):\n    # why\n    return (x + 1)\n")
    assert program_key(source) != program_key(source.replace("1", "2"))


def test_cached_clips_are_those_that_were_made(made):
    clips = made.recipe.video.clips[0]
    first = latent_clips(made, clips)
    assert first.latents.shape == (4, 8, 4, 16, 16) and first.near.any() and not first.near.all()
    path = made.clips_path(clips)
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()[METADATA_KEY])["clips"] == plain(clips)
    path.unlink()
    again = latent_clips(made, clips, echo=False)
    assert all(torch.equal(a, b) for a, b in zip(vars(first).values(), vars(again).values(), strict=True))


def test_a_missing_stage_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="the stage autoencoder of the recipe pocket is not done"):
        MAKE["image"](tiny_run(tmp_path))


def test_the_extra_convolution_may_start_as_a_copy(made, tmp_path):
    model = made.image_model()
    conv_in = model.unet.input_blocks[0][0].weight
    for start, expected in (("zero", torch.zeros_like(conv_in)), ("copy", conv_in)):
        video = replace(made.recipe.video, extra_convolution=start)
        run = Run(made.folder, replace(made.recipe, video=video))
        weight = layers.new_layers(run, "video", model).state_dict()["input_blocks.0.0.extra.weight"]
        assert torch.equal(weight[:, :4], expected) and not weight[:, 4:].any()


def test_the_second_recipe_runs_through_every_stage(tmp_path):
    run = tiny_run(tmp_path, steps=1, of=SECOND)
    assert run.stages == STAGES
    for stage in STAGES:
        MAKE[stage](run, echo=False)
        assert run.is_done(stage)
    checkpoint, *files = export(run, tmp_path / "export")
    assert checkpoint.name == "emu_video_pocket2.safetensors"
    assert [path.name for path in files] == [f"emu_video_pocket2_{role}.safetensors" for role in LAYERS]
    assert load_file(checkpoint)[UNET + SIGNATURE].shape == (17, 3)
    video = layers.new_layers(run, "video", run.image_model()).state_dict()
    assert all(torch.equal(video[key], tensor) for key, tensor in run.load("pretraining").items())
    assert load_layers(files[0])[1].training["start"] == "pretraining"
    assert {load_layers(path)[1].conditioning_channels for path in files} == {17}
    large = load_layers(files[-1])[1]
    assert (large.role, large.factor, large.frames, large.noise_told) == ("super_resolution", 2, 8, True)
    assert large.training["clips"] == 8 and large.training["start"] == "video"


def test_large_clips_are_encoded_from_both_versions(made):
    clips = LargeClips(seed=5, count=3, size=64)
    found = large_clips(made, clips, echo=False)
    assert found.latents.shape == found.upsampled.shape == (3, 8, 4, 8, 8) and found.near.shape == (3, 8, 8, 8)
    pictures = render_clips(sample_clips(5, 3), 64)[0][1].movedim(1, -1).float() / 255
    autoencoder = made.autoencoder()
    for images, latents in ((pictures, found.latents), (upsampled(pictures, 2), found.upsampled)):
        exact = autoencoder.encode(images.movedim(-1, 1))
        assert (latents[1].float() - exact).abs().mean() < 0.02 * exact.abs().mean()  # encoded in bfloat16
    assert not torch.equal(found.latents, found.upsampled)
    stage = replace(SECOND.super_resolution, clips=(clips,))
    trained = layers.training_clips(made, stage)
    assert trained.downscale == 2 and torch.equal(trained[1].upsampled, found.upsampled[1].float())


def test_recipes_are_complete():
    assert RECIPES["first"] is FIRST
    for recipe in RECIPES.values():
        assert sum(p.share for p in recipe.image.pictures) == pytest.approx(1)
        of_layers = [made for role in LAYERS if (made := getattr(recipe, role))]
        for made_by in of_layers:
            assert all(c.frames == made_by.stage.frames for c in made_by.clips)
        seeds = {c.seed: c for s in of_layers for c in s.clips}
        seeds |= {p.clips.seed: p.clips for p in (*recipe.image.pictures, *recipe.text.pictures)}
        assert len(seeds) == 5 + len(of_layers) + (recipe is SECOND)
        assert json.loads(json.dumps(plain(recipe))) == plain(recipe)
    assert tiny_recipe().video.stage.known_frames == FIRST.video.stage.known_frames == "mixed"
