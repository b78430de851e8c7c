"""Every training stage at tiny size: resume, isolation, cache keys, and what the exported files say."""

import json
from dataclasses import replace

import pytest
import torch
from emu_video.diffusion.resize import upsampled
from emu_video.pocket import make as command
from emu_video.pocket.model.checkpoint import AUTOENCODER, SIGNATURE, UNET
from emu_video.pocket.recipe import (
    RECIPE,
    AutoencoderStage,
    ClipSet,
    DecoderStage,
    ImageStage,
    LargeClips,
    LayersStage,
    TextStage,
    fewer,
)
from emu_video.pocket.shipped import WEIGHTS
from emu_video.pocket.stages import decoder, layers
from emu_video.pocket.stages.clips import encode_clips, latent_clips, scenes_of
from emu_video.pocket.stages.crops import Frames
from emu_video.pocket.stages.export import export
from emu_video.pocket.stages.large_clips import large_clips
from emu_video.pocket.stages.run import EXPORTED, METADATA_KEY, Run, plain, program_key, read_made
from emu_video.pocket.world import Scenes, render_clips, sample_clips
from emu_video.temporal_layers.files import load_layers
from safetensors import safe_open
from safetensors.torch import load_file
from torch.nn.functional import avg_pool2d

from .tiny import FEW, tiny_run

pytestmark = pytest.mark.slow


def make(run: Run, name: str, **options) -> None:
    kind = type(run.recipe.stages[name])
    if kind is ImageStage:
        options["compile_model"] = False
    command.MAKERS[kind](run, name, echo=False, **options)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Run:
    """A finished run."""
    run = tiny_run(tmp_path_factory.mktemp("made"))
    assert run.needed == FEW
    for stage in run.needed:
        assert not run.is_done(stage)
        make(run, stage)
        assert run.is_done(stage)
    return run


@pytest.mark.parametrize("stage", FEW)
def test_a_stage_that_was_interrupted_ends_the_same(made, stage, tmp_path):
    run = Run(tmp_path, made.recipe)
    for before in FEW[: FEW.index(stage)]:
        run.path(before).symlink_to(made.path(before))
    stops = iter([False, True])
    make(run, stage, should_stop=lambda: next(stops))
    assert run.has_begun(stage) and not run.is_done(stage)
    torch.manual_seed(123)  # what happened in between must not matter
    make(run, stage)
    assert run.is_done(stage)
    resumed, whole = (load_file(each.path(stage)) for each in (run, made))
    assert resumed.keys() == whole.keys() and all(torch.equal(resumed[key], whole[key]) for key in whole)


def test_training_changes_nothing_in_the_package(made, tmp_path, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in WEIGHTS.rglob("*") if path.is_file()}
    monkeypatch.setattr(command, "MAKERS", dict.fromkeys(command.MAKERS, lambda *_: pytest.fail("made again")))
    command.make(made)
    assert before == {path: path.stat().st_mtime_ns for path in WEIGHTS.rglob("*") if path.is_file()}
    assert not list(made.folder.glob(".*"))  # no unfinished file is left


def test_exported_files_carry_the_recipe(made, tmp_path):
    checkpoint, video, interpolation = export(made, tmp_path)
    assert checkpoint.relative_to(tmp_path).as_posix() == "checkpoints/emu_video_pocket2.safetensors"
    said = read_made(checkpoint)
    assert said["recipe"] == {stage: plain(made.recipe.stages[stage]) for stage in (*FEW[:3], "decoder")}
    assert said["recipe"]["image"]["settings"]["iterations"] == 3 and said["keys"]["image"] == made.keys["image"]
    tensors = load_file(checkpoint)
    assert tensors[UNET + SIGNATURE].shape == (17, 3)
    assert tensors[f"{AUTOENCODER}taesd_decoder.1.weight"].dtype == torch.float16
    for path, role, frames, fps in ((video, "video", 8, 8.0), (interpolation, "interpolation", 13, 32.0)):
        weights, info = load_layers(path)
        assert (info.role, info.frames, info.fps, info.noise_told) == (role, frames, fps, role == "interpolation")
        assert info.training["stage"] == plain(made.recipe.stages[role])
        assert info.training["steps"] == 3
        assert info.training["clips"] == 4 * len(made.stage(role, LayersStage).clips)
        assert all(tensor.dtype == torch.float16 for tensor in weights.values())


def test_layers_can_be_trained_on_a_checkpoint_file(made, tmp_path):
    checkpoint = export(made, tmp_path)[0]
    run = Run(tmp_path / "run", made.recipe, checkpoint)
    assert run.is_done("image") and not run.is_done("video") and run.needed == ("video", "interpolation")
    assert all(
        torch.equal(a, b) for a, b in zip(run.image_model().parameters(), made.image_model().parameters(), strict=True)
    )
    make(run, "video")
    assert [path.parent.name for path in export(run, tmp_path / "again")] == ["temporal_layers"]


def test_keys_change_with_everything_that_made_a_result(made, tmp_path):
    recipe = made.recipe
    words = made.stage("text", TextStage).pictures[0]
    changes = {
        "autoencoder": {"latent_noise": 0.2},
        "decoder": {"most_noise": 200},
        "text": {"pictures": (replace(words, clips=replace(words.clips, scenes=Scenes(pairs=0.5))),)},
        "image": {"timesteps": "noisy"},
        "video": {"seed": 99},
        "interpolation": {"near_weight": 1.0},
    }

    def changed(name: str) -> Run:
        stage = replace(recipe.stages[name], **changes[name])
        return Run(tmp_path, replace(recipe, stages={**recipe.stages, name: stage}))

    for number, name in enumerate(FEW):
        differs = {each for each in FEW if changed(name).keys[each] != made.keys[each]}
        later = set(FEW[number + 1 :]) - ({"interpolation"} if name == "decoder" else set())
        assert differs == {name, *later}
    assert Run(tmp_path, recipe).keys == made.keys
    clips = made.stage("video", LayersStage).clips[0]
    assert made.clips_path(clips).exists()
    assert made.clips_path(replace(clips, count=5)) != made.clips_path(clips)
    assert changed("autoencoder").clips_path(clips).name not in {path.name for path in made.folder.iterdir()}


def test_a_key_of_a_program_ignores_comments_and_docstrings():
    source = 'def f(x):\n    """Doc."""\n    return x + 1\n'
    assert program_key(source) == program_key("def f(x):\n    # why\n    return (x + 1)\n")
    assert program_key(source) != program_key(source.replace("1", "2"))


def test_a_key_of_a_program_is_the_same_on_every_python():
    source = 'class A:\n    "Text."\n\n    def f(self, x=()):\n        return [x, {}]\n'
    assert program_key(source) == "863f633b78c6"


def test_fewer_clips_are_the_first_of_a_set():
    whole = ClipSet(seed=3, count=6)
    assert [clip.caption for clip in scenes_of(fewer(whole, 2))] == [clip.caption for clip in scenes_of(whole)[:2]]


def test_cached_clips_are_those_that_were_made(made):
    clips = made.stage("video", LayersStage).clips[0]
    first = latent_clips(made, clips)
    assert first.latents.shape == (4, 8, 16, 16, 16) and first.near.any() and not first.near.all()
    path = made.clips_path(clips)
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()[METADATA_KEY])["clips"] == plain(clips)
    path.unlink()
    again = latent_clips(made, clips, echo=False)
    assert all(torch.equal(a, b) for a, b in zip(vars(first).values(), vars(again).values(), strict=True))


def test_the_decoder_is_trained_further_and_the_encoder_stays(made):
    before, after = made.load("autoencoder"), made.load("decoder")
    assert {key.partition(".")[0] for key in before if not torch.equal(before[key], after[key])} == {"taesd_decoder"}


def test_the_decoder_gets_latents_of_its_pictures_with_the_errors_of_sampling(made):
    """The first batch keeps its latents, the second one does not."""
    stage = replace(
        made.stage("decoder", DecoderStage), clips=ClipSet(seed=5, count=decoder.AT_ONCE + 2), most_noise=999
    )
    run = Run(made.folder, replace(made.recipe, stages={**made.recipe.stages, "decoder": stage}))
    with torch.no_grad():
        exact = encode_clips(run, stage.clips, echo=False).latents
    sampled = decoder.sampled_clips(run, "decoder")
    same = [torch.equal(one, other) for one, other in zip(exact, sampled, strict=True)]
    assert same == [True] * decoder.AT_ONCE + [False] * 2 and sampled.isfinite().all()


@pytest.mark.parametrize("reach", [0.0, 0.2, 1.0])
def test_crops_show_shapes_and_the_same_part_of_pictures_and_latents(reach):
    clips = ClipSet(seed=5, count=12, scenes=Scenes(pairs=0.5))
    frames = Frames.of(clips, torch.device("cpu"))
    pictures, covered = render_clips(scenes_of(clips))
    assert torch.equal(frames.pictures, pictures) and torch.equal(frames.covered, covered.half())
    crops = frames.draw(40, 64, torch.full((40,), reach), torch.Generator().manual_seed(0), grid=8)
    cut = crops.cut(pictures)
    for number, (clip, frame, (left, top)) in enumerate(zip(crops.clip, crops.frame, crops.corner, strict=True)):
        assert torch.equal(cut[number], pictures[clip, frame, :, top : top + 64, left : left + 64])
    assert crops.corner.min() >= 0 and crops.corner.max() <= 64 and not (crops.corner % 8).any()
    assert len(crops.corner.unique(dim=0)) > 5
    small = avg_pool2d(pictures.flatten(0, 1).float(), 8).unflatten(0, pictures.shape[:2])
    assert torch.allclose(crops.cut(small, 8), avg_pool2d(cut.float(), 8))
    shown = crops.cut(covered[:, :, None]).amax((1, 2, 3)) > 0.5
    assert shown.all() == (reach < 1)


def test_a_missing_stage_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="the stage autoencoder of the recipe pocket2 is not done"):
        make(tiny_run(tmp_path), "image")


def test_the_extra_convolution_starts_as_a_copy(made):
    model = made.image_model()
    weight = layers.new_layers(made, "video", model).state_dict()["input_blocks.0.0.extra.weight"]
    assert torch.equal(weight[:, :16], model.unet.input_blocks[0][0].weight) and not weight[:, 16:].any()


def test_all_stages_follow_each_other(tmp_path):
    run = tiny_run(tmp_path, steps=1, names=tuple(RECIPE.stages))
    assert run.needed == tuple(RECIPE.stages)
    for stage in run.needed:
        make(run, stage)
        assert run.is_done(stage)
    assert not torch.equal(*(run.load(name)["unet.out.2.weight"] for name in ("image_pretraining", "image")))
    checkpoint, *files = export(run, tmp_path / "export")
    assert checkpoint.name == "emu_video_pocket2.safetensors"
    assert [path.name for path in files] == [f"emu_video_pocket2_{role}.safetensors" for role in EXPORTED]
    assert load_file(checkpoint)[UNET + SIGNATURE].shape == (17, 3)
    for role, file in zip(EXPORTED, files, strict=True):
        start = run.stage(role, LayersStage).start
        begun = layers.new_layers(run, role, run.image_model()).state_dict()
        assert all(torch.equal(begun[key], tensor) for key, tensor in run.load(start).items())
        assert load_layers(file)[1].training["start"] == start
    assert {load_layers(path)[1].conditioning_channels for path in files} == {17}
    large = load_layers(files[-1])[1]
    assert (large.role, large.factor, large.frames, large.noise_told) == ("super_resolution", 2, 8, True)
    assert large.training["clips"] == 8


def test_large_clips_are_encoded_from_both_versions(made):
    clips = LargeClips(seed=5, count=3, size=64)
    found = large_clips(made, clips, echo=False)
    assert found.latents.shape == found.upsampled.shape == (3, 8, 16, 8, 8) and found.near.shape == (3, 8, 8, 8)
    pictures = render_clips(sample_clips(5, 3), 64)[0][1].movedim(1, -1).float() / 255
    encoder = made.autoencoder()
    for images, latents in ((pictures, found.latents), (upsampled(pictures, 2), found.upsampled)):
        exact = encoder.encode(images.movedim(-1, 1))
        assert (latents[1].float() - exact).abs().mean() < 0.02 * exact.abs().mean()  # encoded in bfloat16
    assert not torch.equal(found.latents, found.upsampled)
    stage = RECIPE.stages["super_resolution"]
    assert isinstance(stage, LayersStage)
    trained = layers.training_clips(made, replace(stage, clips=(clips,)))
    assert trained.downscale == 2 and torch.equal(trained[1].upsampled, found.upsampled[1].float())


def test_the_recipe_is_complete():
    seeds: dict[int, ClipSet] = {}
    for name, made in RECIPE.stages.items():
        if isinstance(made, LayersStage):
            assert all(c.frames == made.stage.frames for c in made.clips)
            assert made.start == "fresh" or isinstance(RECIPE.stages[made.start], LayersStage)
            assert isinstance(RECIPE.stages[made.image], ImageStage)
            assert (made.image == "image") == (name in EXPORTED)
            sets = made.clips
        elif isinstance(made, TextStage | ImageStage):
            assert sum(p.share for p in made.pictures) == pytest.approx(1)
            sets = [p.clips for p in made.pictures]
        else:
            assert isinstance(made, AutoencoderStage | DecoderStage)
            sets = [made.clips]
        for clips in sets:
            whole = replace(clips, count=0)  # stages may use the first clips of a set
            assert seeds.setdefault(clips.seed, whole) == whole
    assert json.loads(json.dumps(plain(RECIPE))) == plain(RECIPE)
