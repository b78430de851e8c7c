"""Files of AnimateDiff-Evolved's folders, and cache keys of files."""

import os

import folder_paths
import pytest
from emu_video.host.folders import MOTION_LORAS, TEMPORAL_LAYERS, fingerprint, full_path, layer_files, model_files
from emu_video.nodes.layer_settings import LoadMotionLoRA
from emu_video.nodes.temporal_layers import LoadTemporalLayers


@pytest.fixture
def models(tmp_path, monkeypatch):
    """An empty models folder, and only ComfyUI's own folder types."""
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path))
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    known = folder_paths.folder_names_and_paths
    for kind in (TEMPORAL_LAYERS, MOTION_LORAS, "animatediff_models", "animatediff_motion_lora", "loras"):
        if kind in known:
            monkeypatch.delitem(known, kind)
    yield tmp_path
    for kind in (TEMPORAL_LAYERS, MOTION_LORAS, "animatediff_models", "animatediff_motion_lora"):
        known.pop(kind, None)


def file(*parts):
    path = os.path.join(*map(str, parts))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as out:
        out.write(b"x")
    return path


def test_default_folders_of_animatediff_evolved(models):
    layers, lora = file(models, "animatediff_models", "mm.ckpt"), file(models, "animatediff_motion_lora", "zoom.ckpt")
    assert model_files(TEMPORAL_LAYERS) == ["mm.ckpt"] and full_path(TEMPORAL_LAYERS, "mm.ckpt") == layers
    assert model_files(MOTION_LORAS) == ["zoom.ckpt"] and full_path(MOTION_LORAS, "zoom.ckpt") == lora


def test_folders_that_are_registered_later(models, tmp_path):
    """By extra_model_paths.yaml, or by AnimateDiff-Evolved after this pack."""
    assert model_files(TEMPORAL_LAYERS) == []
    elsewhere = file(tmp_path, "elsewhere", "v3.safetensors")
    folder_paths.add_model_folder_path("animatediff_models", os.path.dirname(elsewhere))
    own = file(models, "temporal_layers", "sub", "own.safetensors")
    assert sorted(model_files(TEMPORAL_LAYERS)) == [os.path.join("sub", "own.safetensors"), "v3.safetensors"]
    assert full_path(TEMPORAL_LAYERS, os.path.join("sub", "own.safetensors")) == own


def test_the_first_of_two_files_of_one_name_is_ours(models):
    file(models, "animatediff_models", "same.ckpt")
    ours = file(models, "temporal_layers", "same.ckpt")
    assert model_files(TEMPORAL_LAYERS) == ["same.ckpt"] and full_path(TEMPORAL_LAYERS, "same.ckpt") == ours


def test_a_broken_link_is_listed_last(models):
    """The list is part of the node's definition, so an error here would remove the node."""
    file(models, "temporal_layers", "good.safetensors")
    os.symlink(models / "gone", models / "temporal_layers" / "a_link.safetensors")
    assert layer_files() == ["good.safetensors", "a_link.safetensors"]


def test_cache_key_follows_the_file(models):
    path = file(models, "temporal_layers", "a.ckpt")
    before = fingerprint(TEMPORAL_LAYERS, "a.ckpt")
    assert fingerprint(TEMPORAL_LAYERS, "a.ckpt") == before
    os.utime(path, ns=(1, 1))
    assert fingerprint(TEMPORAL_LAYERS, "a.ckpt") != before


def test_a_name_that_comes_by_a_link_has_a_constant_key():
    for node, name in ((LoadTemporalLayers, "temporal_layers"), (LoadMotionLoRA, "motion_lora")):
        assert node.fingerprint_inputs(**{name: None}) == node.fingerprint_inputs(**{name: None}) == (0, 0)
        assert node.fingerprint_inputs() == (0, 0)
