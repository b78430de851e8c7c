import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
from typing import Any

import pytest
import torch
from emu_video.training import checkpoint
from emu_video.training.checkpoint import (
    DiskFull,
    disk_full_named,
    remove_unfinished,
    save_checkpoint,
    written_whole,
)
from safetensors.torch import save_file


def load_checkpoint(path) -> Any:
    return checkpoint.load_checkpoint(path)


def test_saved_and_loaded(tmp_path):
    assert load_checkpoint(tmp_path / "none.pt") is None
    save_checkpoint(tmp_path / "x.pt", a=torch.ones(2))
    assert torch.equal(load_checkpoint(tmp_path / "x.pt")["a"], torch.ones(2))
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    """As a full disk does."""
    save_checkpoint(tmp_path / "x.pt", a=torch.ones(2))
    with pytest.raises(DiskFull, match="disk of .* is full"):
        with written_whole(tmp_path / "x.pt") as temporary:
            temporary.write_bytes(b"half")
            raise OSError(28, "No space left on device")
    assert torch.equal(load_checkpoint(tmp_path / "x.pt")["a"], torch.ones(2))
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


def test_a_written_file_has_the_rights_of_any_new_file(tmp_path):
    """safetensors alone makes files that other users of a computer cannot read."""
    (tmp_path / "any").touch()
    with written_whole(tmp_path / "x.safetensors") as temporary:
        save_file({"a": torch.ones(1)}, temporary)
    rights = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("any", "x.safetensors")]
    assert rights[0] == rights[1]


def test_kill_at_any_moment_leaves_a_checkpoint_that_loads(tmp_path):
    program = textwrap.dedent(f"""
        from pathlib import Path
        import torch
        from emu_video.training.checkpoint import save_checkpoint
        step = 0
        while True:
            step += 1
            save_checkpoint(Path({str(tmp_path)!r}) / "x.pt", step=step, a=torch.full((300_000,), float(step)))
            print(step, flush=True)
    """)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    for _ in range(5):
        assert process.stdout and process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    state = load_checkpoint(tmp_path / "x.pt")
    assert state["step"] >= 5 and state["a"].eq(float(state["step"])).all()


def test_a_damaged_checkpoint_is_a_sentence(tmp_path):
    for content in (b"PK\x03\x04half a file", b"", b"text"):
        (tmp_path / "x.pt").write_bytes(content)
        with pytest.raises(ValueError, match=r"x\.pt is damaged .*: delete it to begin this run again"):
            load_checkpoint(tmp_path / "x.pt")


def test_errors_of_a_full_disk_become_one_sentence(tmp_path, monkeypatch):
    """PyTorch's own error does not say that the disk is full."""
    words = r"The disk of .* is full\. Complete files are kept"
    with pytest.raises(DiskFull, match=words), disk_full_named(tmp_path):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(KeyError), disk_full_named(tmp_path):
        raise KeyError("another error")
    usage = shutil._ntuple_diskusage(2**30, 2**30, 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DiskFull, match=words), written_whole(tmp_path / "x.pt"):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")
    assert not list(tmp_path.iterdir())


def test_unfinished_files_of_a_killed_run_are_removed(tmp_path):
    (tmp_path / "motion.pt").touch()
    for name in (".motion.pt.12.tmp", ".motion_raw.safetensors.12.tmp", ".other.pt.12.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "unfinished").touch()
    remove_unfinished(tmp_path, "motion")
    assert {path.name for path in tmp_path.iterdir()} == {".other.pt.12.tmp", "motion.pt"}
