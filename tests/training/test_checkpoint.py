import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from emu_video.training import checkpoint
from emu_video.training.checkpoint import save_checkpoint, written_whole

ROOT = Path(__file__).resolve().parents[2]


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
    with pytest.raises(OSError, match="No space"):
        with written_whole(tmp_path / "x.pt") as temporary:
            temporary.write_bytes(b"half")
            raise OSError(28, "No space left on device")
    assert torch.equal(load_checkpoint(tmp_path / "x.pt")["a"], torch.ones(2))
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


def test_kill_at_any_moment_leaves_a_checkpoint_that_loads(tmp_path):
    program = textwrap.dedent(f"""
        import importlib.util, sys
        from pathlib import Path
        spec = importlib.util.spec_from_file_location("checkpoint", {str(ROOT / "training" / "checkpoint.py")!r})
        module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
        import torch
        step = 0
        while True:
            step += 1
            module.save_checkpoint(Path({str(tmp_path)!r}) / "x.pt", step=step, a=torch.full((300_000,), float(step)))
            print(step, flush=True)
    """)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    for _ in range(5):
        assert process.stdout and process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    state = load_checkpoint(tmp_path / "x.pt")
    assert state["step"] >= 5 and state["a"].eq(float(state["step"])).all()
