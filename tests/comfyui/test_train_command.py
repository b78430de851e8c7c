"""run.py train in this process, on a small dataset folder for the pocket checkpoint."""

import signal

import pytest
import torch
from emu_video.host import train_command
from emu_video.pocket.shipped import CHECKPOINT, VIDEO_LAYERS
from emu_video.temporal_layers.files import load_layers
from emu_video.training.clips import Entry, Index
from safetensors.torch import save_file

FEW = {"steps": 2, "batch": 2, "clips_at_once": 2, "save_every": 1, "check_every": 2, "log_every": 1, "sample_every": 0,
       "precision": "float32"}  # fmt: skip


@pytest.fixture(autouse=True)
def interrupt():
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    shard = {
        "latents": torch.randn(4, 8, 16, 8, 8, generator=generator).half(),
        "text": torch.randn(2, 32, 128, generator=generator).half(),
        "pooled": torch.randn(2, 256, generator=generator).half(),
        "text_index": torch.ones(4, dtype=torch.int64),
    }
    save_file(shard, folder / "shard-00000.safetensors")
    entries = tuple(Entry(f"clip {i}", "a.mp4", 0.0, 1.0, "shard-00000.safetensors", i) for i in range(4))
    (folder / "index.json").write_text(
        Index("key", {"name": "pocket2", "hash": ""}, 8, 8.0, (64, 64), entries).to_json()
    )
    return folder


def arguments(dataset, folder, recipe="motion_pocket", layers=True, **changes):
    options = [f"--set={key}={value}" for key, value in {**FEW, **changes}.items()]
    options += ["--layers", str(VIDEO_LAYERS)] if layers else []
    return [recipe, str(dataset), "--checkpoint", str(CHECKPOINT), "--output", str(folder), *options]


def train(dataset, tmp_path, **options):
    train_command.main(arguments(dataset, tmp_path / "run", **options))


def test_a_run_and_its_continuation(pack, dataset, tmp_path, capsys):
    train(dataset, tmp_path, steps=1)
    assert load_layers(tmp_path / "run" / "motion.safetensors")[1].training["steps"] == 1
    train(dataset, tmp_path)
    info = load_layers(tmp_path / "run" / "motion.safetensors")[1]
    assert (info.training["steps"], info.training["data"], info.frames) == (2, "key", 8)
    assert "Done." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": "absent"}, "There is no recipe absent"),
        ({"stepz": 3}, "stepz is not a key of a recipe"),
        ({"layers": False}, "continues temporal layers, but there are none"),
        ({"frames": 16}, "is for clips of 16 frames, the dataset has 8"),
    ],
)
def test_what_is_wrong_is_a_sentence(pack, dataset, tmp_path, changes, message):
    with pytest.raises(SystemExit, match=message):
        train(dataset, tmp_path, **changes)
    with pytest.raises(SystemExit, match="is not a dataset"):
        train(tmp_path, tmp_path)


@pytest.mark.parametrize("name", ["layers", "damaged", "damaged.ckpt"])
def test_a_file_that_is_not_a_checkpoint_is_a_sentence(pack, dataset, tmp_path, name):
    (tmp_path / "damaged.safetensors").write_bytes(b"hello")
    (tmp_path / "damaged.ckpt").write_bytes(b"hello")
    file = {"layers": VIDEO_LAYERS, "damaged": tmp_path / "damaged.safetensors"}.get(name, tmp_path / name)
    with pytest.raises(SystemExit, match="cannot be read as an image checkpoint .*: choose another file"):
        train_command.main([*arguments(dataset, tmp_path / "run"), "--checkpoint", str(file)])


def test_ctrl_c_stops_after_a_step():
    stop = train_command._Stop()
    signal.raise_signal(signal.SIGINT)
    assert stop.wanted
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
