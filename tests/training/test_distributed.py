"""Two gloo processes against one: the same losses, resumed on another number, files written by the first."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from emu_video.tests.training.test_trainer import STAGE, brightening, run
from emu_video.training.distributed import ALONE, Processes, processes
from emu_video.training.log import read_rows

pytestmark = pytest.mark.slow

PROGRAM = """
import sys
from pathlib import Path
import torch
from emu_video.tests.training.test_distributed import trained
from emu_video.training.distributed import processes

with processes(torch.device("cpu")) as group:
    trained(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "shard", group)
"""


def trained(folder: Path, stop=0, bad=-1, shard=False, processes=ALONE):
    """Train in this process; the losses of the steps are appended to losses.json."""
    losses = []
    stage = replace(STAGE, held_out=0.0, clips_at_once=1, shard=shard)
    clips = brightening(bad=bad if bad >= 0 else None)
    run(folder, stage, clips, processes=processes, on_step=lambda p: losses.append(p.loss),
        should_stop=lambda: bool(stop) and len(losses) == stop)  # fmt: skip
    if processes.is_first:
        file = folder / "losses.json"
        file.write_text(json.dumps((json.loads(file.read_text()) if file.exists() else []) + losses))


def launch(folder: Path, stop=0, bad=-1, shard=False):
    """The same in two processes."""
    folder.mkdir()
    program = folder.with_suffix(".py")
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(program),
               str(folder), str(stop), str(bad), "shard" if shard else ""]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_two_processes_equal_one(tmp_path):
    trained(tmp_path / "one")
    for name, options in {"two": {}, "mixed": {"stop": 5}, "sharded": {"shard": True}}.items():
        done = launch(tmp_path / name, **options)
        assert done.returncode == 0, done.stderr[-3000:]
    trained(tmp_path / "mixed")  # resumed by one process
    one, *others = (json.loads((tmp_path / n / "losses.json").read_text()) for n in ("one", "two", "mixed", "sharded"))
    assert len(one) == STAGE.steps
    for other in others:
        assert other == pytest.approx(one, abs=1e-6)
    checks = [[row["check_loss"] for row in read_rows(tmp_path / n / "motion.csv")] for n in ("one", "two", "sharded")]
    assert checks[1] == pytest.approx(checks[0], rel=1e-4) and checks[2] == pytest.approx(checks[0], rel=1e-4)
    assert len(list((tmp_path / "two").iterdir())) == 6  # written once


def test_a_bad_clip_stops_both_processes(tmp_path):
    done = launch(tmp_path / "bad", bad=9)
    assert done.returncode != 0 and done.stderr.count("is not a finite number. Its clips: ") >= 2


def test_processes_wait_for_hours(monkeypatch):
    """The first process may make videos for longer than the ten minutes of NCCL's default."""
    given = {}
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **options: given.update(options))
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    with processes(torch.device("cpu")) as group:
        assert group == Processes(0, 2)
    assert given["timeout"] >= timedelta(hours=12)


def test_shares_of_a_batch():
    assert Processes(1, 2).share(8, 3) == [range(4, 7), range(7, 8)]
    assert Processes().share(4, 4) == [range(4)]
    with pytest.raises(ValueError, match="A batch of 6 clips cannot be shared equally among 4 processes"):
        Processes(0, 4).share(6, 1)
