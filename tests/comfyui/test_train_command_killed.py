"""run.py train under kill -9, on a full disk and with lost files: the last checkpoint stays, and the run goes on."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from emu_video.temporal_layers.files import load_layers
from emu_video.tests.comfyui.command_process import CAN_FORK, started
from emu_video.tests.comfyui.test_train_command import arguments, dataset  # noqa: F401  (a fixture)
from emu_video.training.checkpoint import load_checkpoint
from emu_video.training.log import read_rows

KILLS, STEPS = 20, 60
CHANGES = {"save_every": 1, "check_every": 20, "log_every": 1, "warmup": 5}
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CAN_FORK, reason="needs fork")]


def saves(process, file: Path, count: int) -> None:
    """Wait until `file` was replaced `count` times, or the process has ended."""
    for _ in range(count):
        before = file.stat().st_ino if file.exists() else 0
        while process.is_alive() and (file.stat().st_ino if file.exists() else 0) == before:
            time.sleep(0.002)


def same(one, other) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_killed_20_times_the_run_ends_with_the_same_weights(pack, dataset, tmp_path):  # noqa: F811
    """Every moment counts: while loading, in a step, and while files are written."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    process = started(arguments(dataset, whole, steps=STEPS, **CHANGES))
    begun = time.monotonic()
    saves(process, whole / "motion.pt", 1)
    loading = time.monotonic() - begun
    process.join()
    assert process.exitcode == 0
    step = (time.monotonic() - begun - loading) / STEPS

    command = arguments(dataset, cut, steps=STEPS, **CHANGES)
    draw, steps, unfinished = random.Random(0), [0], 0
    checkpoint = cut / "motion.pt"
    for _ in range(KILLS):
        process = started(command)
        count = draw.randrange(4)
        saves(process, checkpoint, count)
        time.sleep(draw.uniform(0, step if count else loading))
        process.kill()
        process.join()
        assert process.exitcode == -9
        unfinished += bool(list(checkpoint.parent.glob(".*.tmp")))
        state = load_checkpoint(checkpoint)
        steps.append(state["step"] if state else 0)
        if (layers := checkpoint.with_suffix(".safetensors")).exists():
            load_layers(layers)
    print(f"{KILLS} kills, checkpoints {steps}, {unfinished} times a file was being written")
    assert steps == sorted(steps) and 0 < steps[-1] < STEPS
    process = started(command)
    process.join()
    assert process.exitcode == 0
    assert same(load_checkpoint(whole / "motion.pt"), load_checkpoint(checkpoint))
    for name in ("motion", "motion_raw"):
        assert same(*(load_layers(run / f"{name}.safetensors")[0] for run in (whole, cut)))
    measured = {"seconds", "clips_per_second", "memory"}
    rows = [[{k: v for k, v in row.items() if k not in measured} for row in read_rows(run / "motion.csv")]
            for run in (whole, cut)]  # fmt: skip
    assert rows[0] == rows[1] and len(rows[0]) == STEPS
    assert not list(checkpoint.parent.glob(".*"))


def test_ctrl_c_saves_and_the_next_run_goes_on(pack, dataset, tmp_path):  # noqa: F811
    whole, cut = (arguments(dataset, tmp_path / name, steps=12, save_every=100) for name in ("whole", "cut"))
    process = started(whole)
    process.join()
    csv = tmp_path / "cut" / "motion.csv"
    process = started(cut)
    saves(process, csv, 3)
    assert process.pid
    os.kill(process.pid, signal.SIGINT)
    process.join()
    state = load_checkpoint(csv.with_suffix(".pt"))
    assert process.exitcode == 0 and state and 3 <= state["step"] < 12
    process = started(cut)
    process.join()
    assert same(*(load_layers(tmp_path / name / "motion.safetensors")[0] for name in ("whole", "cut")))
