import errno
from dataclasses import replace

import pytest
import torch
from emu_video.temporal_layers.attach import attach
from emu_video.temporal_layers.backbones import find_anchors
from emu_video.temporal_layers.files import load_layers
from emu_video.temporal_layers.layers import TemporalLayers
from emu_video.tests.temporal_layers.small import UNet, info_for
from emu_video.training import trainer
from emu_video.training.checkpoint import DiskFull
from emu_video.training.checks import check
from emu_video.training.clips import MemoryClips
from emu_video.training.log import read_rows
from emu_video.training.recipe import Stage
from emu_video.training.samples import Sampling
from emu_video.training.task import Task
from emu_video.training.trainer import Run, stage_info, stage_objective, train_layers, warnings

FRAMES = 4
STAGE = Stage(steps=12, batch=4, clips_at_once=2, prediction="v", zero_terminal_snr=True, learning_rate=3e-3, warmup=2,
              held_out=0.1, save_every=5, check_every=4, log_every=4)  # fmt: skip


def brightening(count=20, bad=None):
    """Clips that get brighter from frame to frame, each from a level of its own."""
    levels = torch.linspace(-1, 1, count)[:, None, None, None, None]
    latents = (levels + 0.7 * torch.arange(FRAMES)[:, None, None, None]).expand(-1, -1, 4, 4, 4).clone()
    if bad is not None:
        latents[bad] = float("nan")
    null = {"cross_attn": torch.zeros(2, 6)}
    captions = [f"clip of level {number}" for number in range(count)]
    return MemoryClips(latents, [null] * count, null, fps=8.0, captions=captions, key="levels")


def fresh(seed=0):
    unet = UNet().requires_grad_(False)
    layers = TemporalLayers(find_anchors(unet), 5)
    layers.load_state_dict(layers.fresh_state_dict(seed))
    layers.frames = FRAMES
    attach(unet, layers, owner=layers)

    def network(noisy, t, conditioning, texts):
        assert len(noisy) == len(t) == len(texts)
        return unet(torch.cat([noisy, conditioning], 2).flatten(0, 1)).unflatten(0, noisy.shape[:2])

    return unet, layers, network


def run(folder, stage=STAGE, clips=None, seed=0, settings=None, **options):
    unet, layers, network = fresh()
    clips = clips or brightening()
    this = Run(folder, "a test", seed, {"name": "pocket", "hash": "123"}, "fresh", settings or {})
    info = stage_info(info_for(layers), clips, stage, this)
    return unet, train_layers(layers, network, clips, stage, info, this, echo=False, **options)


def test_files_of_a_run(tmp_path):
    unet, result = run(tmp_path)
    before = UNet()
    assert all(torch.equal(weight, before.state_dict()[key]) for key, weight in unet.state_dict().items())
    names = {"csv", "png", "pt", "safetensors"}
    assert {path.name for path in tmp_path.iterdir()} == {f"motion.{n}" for n in names} | {"motion_raw.safetensors"}
    averaged, info = load_layers(tmp_path / "motion.safetensors")
    raw, _ = load_layers(tmp_path / "motion_raw.safetensors")
    assert all(torch.equal(averaged[key], result.average["layers"][key]) for key in averaged)
    assert all(torch.equal(raw[key], result.raw["layers"][key]) for key in raw)
    assert any(not torch.equal(averaged[key], raw[key]) for key in raw)
    assert (info.role, info.frames, info.fps, info.prediction, info.zero_terminal_snr) == ("video", 4, 8.0, "v", True)
    training = info.training
    assert training["recipe"] == "a test" and training["steps"] == 12 and training["data"] == "levels"
    assert training["base"] == {"name": "pocket", "hash": "123"} and training["settings"]["batch"] == 4


@pytest.mark.slow
def test_it_learns_the_order_of_frames(tmp_path):
    stage = Stage(steps=300, batch=8, clips_at_once=8, prediction="v", zero_terminal_snr=True, learning_rate=1e-2,
                  warmup=10, held_out=0.1, check_every=50, log_every=50, save_every=300)  # fmt: skip
    run(tmp_path, stage)
    rows = read_rows(tmp_path / "motion.csv")
    assert rows[-1]["loss"] < 0.6 * rows[0]["loss"] and rows[-1]["check_loss"] < 0.8 * rows[0]["check_loss"]
    _, layers, network = fresh()
    objective = stage_objective(stage, info_for(layers))
    before: dict = check(Task(network, objective, brightening(), True, torch.device("cpu")), range(8))
    assert abs(before["motion"] - 1) < 0.1 and rows[-1]["motion"] > 1.5
    assert {"loss_last", "loss_750_1000", "loss_given", "gradient", "clips_per_second", "memory"} <= rows[-1].keys()


def test_resumed_bit_for_bit(tmp_path):
    _, whole = run(tmp_path / "whole")
    steps = []
    _, cut = run(tmp_path / "cut", on_step=lambda p: steps.append(p.done), should_stop=lambda: len(steps) == 7)
    assert cut.stopped and load_layers(tmp_path / "cut" / "motion.safetensors")[1].training["steps"] == 7
    _, resumed = run(tmp_path / "cut")
    assert all(torch.equal(resumed.raw["layers"][k], v) for k, v in whole.raw["layers"].items())
    assert all(torch.equal(resumed.average["layers"][k], v) for k, v in whole.average["layers"].items())
    with pytest.raises(ValueError, match="belongs to another run: batch was 4 and is 8"):
        run(tmp_path / "cut", Stage(**{**STAGE.__dict__, "batch": 8}))


def test_timesteps_can_have_learned_weights(tmp_path):
    stage = replace(STAGE, timestep_weights="learned")
    _, whole = run(tmp_path / "whole", stage)
    assert whole.raw["timestep_weights"]["logarithm"].abs().max() > 0
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert names == {"motion.csv", "motion.png", "motion.pt", "motion.safetensors", "motion_raw.safetensors"}
    steps = []
    run(tmp_path / "cut", stage, on_step=lambda p: steps.append(p.done), should_stop=lambda: len(steps) == 7)
    _, resumed = run(tmp_path / "cut", stage)
    assert torch.equal(resumed.raw["timestep_weights"]["logarithm"], whole.raw["timestep_weights"]["logarithm"])
    assert all(torch.equal(resumed.raw["layers"][k], v) for k, v in whole.raw["layers"].items())


def test_a_file_that_the_last_step_could_not_write_is_made_by_the_next_run(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(trainer, "save_layers", full)
    with pytest.raises(DiskFull):
        run(tmp_path, replace(STAGE, save_every=12))
    monkeypatch.undo()
    assert (tmp_path / "motion.pt").exists() and not (tmp_path / "motion.safetensors").exists()
    _, result = run(tmp_path, replace(STAGE, save_every=12))
    averaged, info = load_layers(tmp_path / "motion.safetensors")
    assert info.training["steps"] == 12
    assert all(torch.equal(averaged[key], result.average["layers"][key]) for key in averaged)


def test_the_layers_are_written_after_all_other_files(tmp_path, monkeypatch):
    """They say how far a run came, so a kill in between leaves those of the step before."""
    written = []
    monkeypatch.setattr(trainer, "save_layers", lambda path, *_: written.append(path.name))
    run(tmp_path)
    assert set(written) == {"motion.safetensors", "motion_raw.safetensors"}
    assert written[1::2] == ["motion.safetensors"] * (len(written) // 2)


def test_a_run_is_not_continued_with_other_layers(tmp_path):
    run(tmp_path, settings={"layers": "a"})
    with pytest.raises(ValueError, match="belongs to another run: layers was 'a' and is 'b'"):
        run(tmp_path, settings={"layers": "b"})


def test_gradients_of_any_size_without_a_limit(tmp_path):
    _, result = run(tmp_path, replace(STAGE, gradient_clip=0.0))
    _, layers, _ = fresh()
    assert any(not torch.equal(result.raw["layers"][key], value) for key, value in layers.state_dict().items())


def test_samples_of_a_dataset_with_several_sizes():
    plain = brightening(4)
    sizes = [plain.latents[0], plain.latents[1].repeat(1, 1, 1, 2), plain.latents[2], plain.latents[3]]
    clips = MemoryClips(sizes, plain.texts, plain.null, fps=8.0, captions=plain.captions, key="sizes")
    _, layers, network = fresh()
    task = Task(network, stage_objective(STAGE, info_for(layers)), clips, True, torch.device("cpu"))
    samples = Sampling(1, 2).make(task, range(4), "x", 5)
    assert samples.latents.shape == (3, 4, 4, 4, 4)
    assert samples.captions == [plain.captions[number] for number in (0, 2, 3)]


def test_layers_whose_checkpoint_is_lost_are_not_replaced(tmp_path):
    run(tmp_path)
    before = (tmp_path / "motion.safetensors").read_bytes()
    (tmp_path / "motion.pt").unlink()
    with pytest.raises(ValueError, match=r"motion\.safetensors exists, but the checkpoint .* is gone"):
        run(tmp_path)
    assert (tmp_path / "motion.safetensors").read_bytes() == before


def test_a_clip_that_is_no_number_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"The loss of step \d+ is not a finite number\. Its clips: .*level 9.*kept"):
        run(
            tmp_path,
            clips=brightening(bad=9),
            stage=Stage(**{**STAGE.__dict__, "save_every": 1, "held_out": 0.0}),
            seed=2,
        )
    assert all(weight.isfinite().all() for weight in load_layers(tmp_path / "motion.safetensors")[0].values())


def test_what_to_do_after_a_loss_that_is_no_number_works(tmp_path):
    stage = replace(STAGE, save_every=1, held_out=0.0)
    with pytest.raises(ValueError, match=r"No checkpoint was saved yet: .* lower learning_rate .*, and run again\."):
        run(tmp_path / "none", stage, brightening(4, bad=1))
    run(tmp_path / "none", replace(stage, learning_rate=1e-4), brightening(4))
    with pytest.raises(
        ValueError, match=r"motion\.safetensors of an earlier step is kept: start a run in another folder from it"
    ):
        run(tmp_path / "kept", stage, brightening(bad=9), seed=2)


def test_values_that_the_files_cannot_hold_keep_the_last_checkpoint(tmp_path):
    large = replace(STAGE, learning_rate=1e30, warmup=0, save_every=1)
    with pytest.raises(ValueError, match=r"After step 1, .* has values that float16 cannot hold\. No checkpoint was"):
        run(tmp_path, large, save_as=torch.float16)
    assert not (tmp_path / "motion.pt").exists()


def test_roles_need_layers_that_read_known_frames(tmp_path):
    _, layers, _ = fresh()
    blind = replace(info_for(layers), conditioning_channels=0, family="AnimateDiff")
    this = Run(tmp_path, "", 0, {"name": "pocket", "hash": ""}, "AnimateDiff")
    stage = Stage(role="interpolation", known_frames="every n-th", known_every=3)
    with pytest.raises(
        ValueError, match=r"the role interpolation, but these temporal layers \(AnimateDiff\) do not rea"
    ):
        stage_info(blind, brightening(), stage, this)
    assert stage_info(info_for(layers), brightening(), stage, this).role == "interpolation"
    mixed = Stage(steps=5000, known_frames="mixed")
    (warning,) = warnings(brightening(), mixed, blind, fresh=False)
    assert 'known_frames "mixed" has no effect, because these temporal layers (AnimateDiff) do not read' in warning
    assert warnings(brightening(), mixed, info_for(layers), fresh=False) == []


@pytest.mark.parametrize("pattern", ["mixed", "first few", "every n-th"])
def test_too_few_frames_for_a_pattern(tmp_path, pattern):
    _, layers, _ = fresh()
    this = Run(tmp_path, "", 0, {"name": "pocket", "hash": ""}, "fresh")
    short = brightening()
    short.latents, short.frames = short.latents[:, :3], 3
    with pytest.raises(ValueError, match="Clips of 3 frames leave too little to fill in: use 4 frames or more"):
        stage_info(info_for(layers), short, Stage(known_frames=pattern), this)


def test_lengths_that_do_not_fit(tmp_path):
    _, layers, _ = fresh()
    this = Run(tmp_path, "", 0, {"name": "pocket", "hash": ""}, "fresh")
    with pytest.raises(ValueError, match="stage motion is for clips of 8 frames, the dataset has 4"):
        stage_info(info_for(layers), brightening(), Stage(frames=8), this)


def test_fresh_layers_on_few_clips_are_warned_of():
    info = info_for(fresh()[1])
    (warning,) = warnings(brightening(), Stage(steps=100), info, fresh=True)
    assert "Fresh temporal layers with 20 clips and 100 steps will hardly move" in warning
    assert warnings(brightening(), Stage(steps=100), info, fresh=False) == []


def test_a_check_of_clips_that_are_trained_on_is_warned_of():
    info = info_for(fresh()[1])
    for clips, stage in ((brightening(9), Stage()), (brightening(), Stage(held_out=0.0))):
        (warning,) = warnings(clips, stage, info, fresh=False)
        assert "check_loss is of clips that are trained on" in warning


def test_sample_videos_are_stopped_between_their_steps(tmp_path):
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 2

    _, layers, network = fresh()
    task = Task(network, stage_objective(STAGE, info_for(layers)), brightening(), True, torch.device("cpu"))
    assert Sampling(1, 5).make(task, [0, 1], "x", 5, stop) is None and len(asked) == 3


def test_sample_videos_are_made_with_the_average_and_change_nothing(tmp_path):
    _, plain = run(tmp_path / "plain")
    made = []
    _, result = run(tmp_path / "samples", on_samples=made.append, sampling=Sampling(every=10, steps=3))
    assert [(each.stage, each.step, tuple(each.latents.shape)) for each in made] == [("motion", 10, (2, 4, 4, 4, 4))]
    assert made[0].latents.isfinite().all() and made[0].captions[0].startswith("clip of level")
    assert all(torch.equal(result.raw["layers"][k], v) for k, v in plain.raw["layers"].items())
    texts = ({"cross_attn": torch.ones(2, 6)},) * 3
    _, layers, network = fresh()
    task = Task(network, stage_objective(STAGE, info_for(layers)), brightening(), True, torch.device("cpu"))
    videos = Sampling(1, 3, texts, ("a", "b", "c")).make(task, [0, 1], "x", 5)
    assert videos.captions == ["a", "b", "c"] and videos.latents.shape == (3, 4, 4, 4, 4)
    again = Sampling(1, 3, texts, ("a", "b", "c")).make(task, [0, 1], "x", 5)
    assert torch.equal(videos.latents, again.latents) and not torch.equal(videos.latents[0], videos.latents[1])
    weaker = Sampling(1, 3, texts, ("a", "b", "c"), guidance=(2.0, 1.0)).make(task, [0, 1], "x", 5)
    assert not torch.equal(videos.latents, weaker.latents)
