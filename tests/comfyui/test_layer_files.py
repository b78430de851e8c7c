"""The file list of Load Temporal Layers: files that make a video from scratch come first."""

import folder_paths
import pytest
from emu_video.host.folders import TEMPORAL_LAYERS, layer_files
from emu_video.nodes.temporal_layers import LoadTemporalLayers
from emu_video.temporal_layers.files import save_layers
from emu_video.tests.comfyui import tiny


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path))
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", {TEMPORAL_LAYERS: ([str(tmp_path)], set())})
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    return tmp_path


def test_video_layers_come_first(folder, model):
    for name, role in (("a_interpolation", "interpolation"), ("b_sharper", "super_resolution"), ("c_video", "video")):
        save_layers(folder / f"{name}.safetensors", *tiny.temporal(model, role=role))
    (folder / "d_public.ckpt").write_bytes(b"a pickle")
    names = ["c_video.safetensors", "d_public.ckpt", "a_interpolation.safetensors", "b_sharper.safetensors"]
    assert layer_files() == names
    (listed,) = [entry for entry in LoadTemporalLayers.define_schema().inputs if entry.id == "temporal_layers"]
    assert listed.options == names


def test_a_file_that_changes_its_role_changes_its_place(folder, model):
    save_layers(folder / "a.safetensors", *tiny.temporal(model, role="interpolation"))
    save_layers(folder / "b.safetensors", *tiny.temporal(model))
    assert layer_files() == ["b.safetensors", "a.safetensors"]
    save_layers(folder / "a.safetensors", *tiny.temporal(model, role="video"))
    assert layer_files() == ["a.safetensors", "b.safetensors"]


def test_no_files(folder):
    assert layer_files() == []
