"""The Load Temporal Layers node and the folders it reads."""

from __future__ import annotations

import os

import folder_paths
import pytest
import torch
from emu_video.host import folders
from emu_video.host.injection import layers_info
from emu_video.nodes.temporal_layers import LoadTemporalLayers
from emu_video.temporal_layers.files import save_layers
from emu_video.tests.comfyui.tiny import sample, temporal, with_temporal_layers


@pytest.fixture
def models_dir(tmp_path, monkeypatch):
    """Empty model folders, as a fresh ComfyUI has them."""
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path))
    monkeypatch.setattr(
        folder_paths,
        "folder_names_and_paths",
        {"checkpoints": ([str(tmp_path / "checkpoints")], folder_paths.supported_pt_extensions)},
    )
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    (tmp_path / folders.TEMPORAL_LAYERS).mkdir()
    return tmp_path


@pytest.fixture
def file(models_dir, model):
    folders.register()
    path = models_dir / folders.TEMPORAL_LAYERS / "mine.safetensors"
    save_layers(path, *temporal(model))
    return path


def test_only_weights_are_listed(file):
    (file.parent / "notes.txt").write_text("not weights")
    (file.parent / "v3_sd15_mm.ckpt").write_bytes(b"not read")
    (file.parent / "adapter").mkdir()
    (file.parent / "adapter" / "config.json").write_text("{}")
    (file.parent / "adapter" / "diffusion_pytorch_model.safetensors").write_bytes(b"not read")
    names = folder_paths.get_filename_list(folders.TEMPORAL_LAYERS)
    found = {"mine.safetensors", "v3_sd15_mm.ckpt", os.path.join("adapter", "diffusion_pytorch_model.safetensors")}
    assert found <= set(names)
    assert all(os.path.splitext(name)[1] in folders.EXTENSIONS for name in names)


def test_shipped_weights_are_listed(models_dir):
    folders.register()
    for kind in ("checkpoints", folders.TEMPORAL_LAYERS):
        assert str(folders.WEIGHTS / kind) in folder_paths.get_folder_paths(kind)
        for file in (folders.WEIGHTS / kind).glob("*.safetensors"):
            assert file.name in folder_paths.get_filename_list(kind)


def test_folders_of_extra_model_paths_stay_first(models_dir, tmp_path):
    mine = str(tmp_path / "elsewhere")
    folder_paths.add_model_folder_path(folders.TEMPORAL_LAYERS, mine, is_default=True)
    folders.register()
    folders.register()
    paths = folder_paths.get_folder_paths(folders.TEMPORAL_LAYERS)
    assert paths == [
        mine,
        str(models_dir / "temporal_layers"),
        str(folders.WEIGHTS / "temporal_layers"),
        str(models_dir / "animatediff_models"),
    ]
    assert folder_paths.folder_names_and_paths["checkpoints"][1] is folder_paths.supported_pt_extensions


def test_node_hangs_the_file_on_the_model(file, model):
    expected = sample(with_temporal_layers(model, frames=2))
    video = LoadTemporalLayers.execute(model, "mine.safetensors", 2).result[0]
    assert torch.equal(sample(video), expected)
    assert layers_info(video) == temporal(model)[1]


def test_a_retrained_file_is_loaded_anew(file, model):
    before = LoadTemporalLayers.fingerprint_inputs(temporal_layers="mine.safetensors", model=None, frames=0)
    assert before == LoadTemporalLayers.fingerprint_inputs(temporal_layers="mine.safetensors")
    save_layers(file, *temporal(model, seed=2))
    os.utime(file, ns=(0, before[0] + 1))
    assert before != LoadTemporalLayers.fingerprint_inputs(temporal_layers="mine.safetensors")


def test_a_damaged_file_is_named(file, model):
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="mine.safetensors"):
        LoadTemporalLayers.execute(model, "mine.safetensors")


def test_a_missing_file_is_named(file, model):
    with pytest.raises(FileNotFoundError, match="other.safetensors"):
        LoadTemporalLayers.execute(model, "other.safetensors")
