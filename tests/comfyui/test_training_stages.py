"""Recipes of several stages: their order, and what a later stage begins from."""

import weakref

import pytest
import torch
from emu_video.host import training
from emu_video.host.training import train_recipe
from emu_video.temporal_layers.files import load_layers
from emu_video.tests.comfyui import tiny
from emu_video.tests.comfyui.test_training import clips, recipe


def test_stages_follow_each_other(model, tmp_path):
    stages = [{"name": "one"}, {"name": "two", "prediction": "v", "zero_terminal_snr": True}]
    seen = []
    trained = train_recipe(
        model, recipe(stage=stages), clips(), tmp_path, echo=False, on_step=lambda s, p: seen.append((s.name, p.done))
    )
    assert seen == [(name, step) for name in ("one", "two") for step in (1, 2, 3, 4)]
    first, second = (load_layers(tmp_path / f"{name}.safetensors")[1] for name in ("one", "two"))
    assert (first.zero_terminal_snr, second.zero_terminal_snr) == (False, True)
    assert first.training["start"] == "fresh" and second.training["start"] == "one"
    assert trained.file.name == "two.safetensors"


def test_later_stages_are_checked_before_the_first_one_starts(model, tmp_path):
    stages = [{"name": "one"}, {"name": "two", "frames": 8}]
    with pytest.raises(ValueError, match="stage two is for clips of 8 frames, the dataset has 4"):
        train_recipe(model, recipe(stage=stages), clips(), tmp_path, echo=False)
    assert not list(tmp_path.iterdir())


def test_a_stage_is_not_resumed_after_another_first_stage(model, tmp_path):
    stages = [{"name": "one", "steps": 2}, {"name": "two"}]
    first = train_recipe(model, recipe(stage=stages), clips(), tmp_path, echo=False)
    again = train_recipe(model, recipe(stage=stages), clips(), tmp_path, echo=False)
    assert all(torch.equal(again.state_dict[key], weight) for key, weight in first.state_dict.items())
    before = (tmp_path / "one.pt").read_bytes()
    stages[0]["steps"] = 3
    with pytest.raises(ValueError, match="Stage one has 2 of 3 steps, but stage two has begun from it"):
        train_recipe(model, recipe(stage=stages), clips(), tmp_path, echo=False)
    assert (tmp_path / "one.pt").read_bytes() == before
    for file in tmp_path.glob("one*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"two\.pt belongs to another run: layers was"):
        train_recipe(model, recipe(stage=stages), clips(), tmp_path, echo=False)


def test_a_later_dataset_may_be_prepared_meanwhile(model, tmp_path, caplog, monkeypatch):
    """Its stage is checked when it begins."""

    def opened(folder):
        if not folder.exists():
            raise ValueError(f"{folder} is missing")
        return clips()

    monkeypatch.setattr(training, "ShardedClips", opened)
    stages = [{"name": "one"}, {"name": "two", "dataset": "later"}]
    with pytest.raises(ValueError, match="later is missing"):
        train_recipe(model, recipe(stage=stages), tmp_path, tmp_path / "run", echo=False)
    assert "later, the dataset of stage two, does not exist yet" in caplog.text
    assert load_layers(tmp_path / "run" / "one.safetensors")[1].training["steps"] == 4


def test_videos_of_known_motions_have_the_form_of_each_stage(video_model, tmp_path, monkeypatch):
    stages = [{"name": "one"}, {"name": "two"}, {"name": "three"}]
    data = [clips(), clips(), clips()]
    data[2].fps = 2 * data[0].fps
    made = []

    def prior(model, recipe, layers, *, clips, **_):
        made.append((layers[1].fps, clips.fps))
        return clips

    monkeypatch.setattr(training, "checked_clips", lambda *_: data)
    monkeypatch.setattr(training, "_prior", prior)
    given = tiny.temporal(video_model)
    asked = recipe(start="given", prior_prompts=["a"], stage=stages)
    train_recipe(video_model, asked, clips(), tmp_path, given=given, echo=False)
    assert made == [(given[1].fps, data[0].fps), (given[1].fps, data[2].fps)]


def test_prompts_without_effect_are_warned_of(model, tmp_path, caplog):
    train_recipe(model, recipe(prompts=["a"]), clips(), tmp_path, echo=False)
    assert "need a CLIP" in caplog.text and "no sample videos are made" in caplog.text


def test_weights_of_a_stage_are_freed_before_the_next(model, tmp_path, monkeypatch):
    results, alive = [], []
    train_stage = training._train_stage

    def train(*args, **options):
        alive.extend(each() is not None for each in results)
        result = train_stage(*args, **options)
        results.append(weakref.ref(result))
        return result

    monkeypatch.setattr(training, "_train_stage", train)
    train_recipe(model, recipe(stage=[{"name": "one"}, {"name": "two"}]), clips(), tmp_path, echo=False)
    assert len(results) == 2 and alive == [False]
