import os

import numpy as np
import pytest
from emu_video.training.log import Log, curves, read_rows, save_picture


def test_rows_are_means_over_some_steps(tmp_path, capsys):
    log = Log(tmp_path / "log.csv", 50)
    for step in range(50):
        log.add(step, loss=float(step), seldom=(6.0, 2) if step == 30 else (0.0, 0))
    rows = read_rows(tmp_path / "log.csv")
    assert [(row["step"], row["loss"]) for row in rows] == [(25, 12.0), (50, 37.0)]
    assert "seldom" not in rows[0] and rows[1]["seldom"] == 3.0  # a band that no clip fell in has no mean
    assert capsys.readouterr().out.count("\n") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_a_resumed_log_drops_what_lies_beyond(tmp_path):
    log = Log(tmp_path / "log.csv", 100, 10)
    for step in range(40):
        log.add(step, loss=1.0)
    again = Log(tmp_path / "log.csv", 100, 10, first=20)
    for step in range(20, 40):
        again.add(step, loss=2.0)
    assert [(row["step"], row["loss"]) for row in read_rows(tmp_path / "log.csv")] == [
        (10, 1),
        (20, 1),
        (30, 2),
        (40, 2),
    ]
    assert again.rows[-1]["seconds"] >= again.rows[1]["seconds"]


def test_a_log_that_is_open_in_another_program_does_not_end_the_run(tmp_path, monkeypatch, caplog):
    log = Log(tmp_path / "log.csv", 3, 1)
    replace, locked = os.replace, [True]

    def refuse(*paths):
        if locked:
            raise PermissionError(13, "in use")
        replace(*paths)

    monkeypatch.setattr(os, "replace", refuse)
    log.add(0, loss=1.0)
    locked.clear()
    log.add(1, loss=2.0)
    assert [row["loss"] for row in read_rows(tmp_path / "log.csv")] == [1, 2] and "is open in" in caplog.text


def test_figures_of_several_processes_are_joined(tmp_path):
    log = Log(tmp_path / "log.csv", 1, gather=lambda sums: [sums, {"loss": (4.0, 1), "other": (8.0, 4)}])
    log.add(0, loss=2.0)
    assert (log.last["loss"], log.last["other"]) == (3.0, 2.0)


def test_curves_show_each_figure_in_its_colour(tmp_path):
    rows = [{"step": step, "loss": 1 / step, "check": 0.5} for step in range(1, 30)]
    picture = curves(rows, ("loss", "check", "absent"))
    assert picture.shape == (270, 480, 3) and picture.dtype == np.uint8
    for colour in ((31, 119, 180), (255, 127, 14)):
        close = np.abs(picture.astype(int) - colour).max(-1) < 60
        assert close.sum() > 40
    assert (curves([], ("loss",)) == 255).all()
    save_picture(tmp_path / "loss.png", picture)
    cv2 = pytest.importorskip("cv2")
    assert np.array_equal(cv2.imread(str(tmp_path / "loss.png"))[..., ::-1], picture)


def test_tensorboard_is_asked_for_by_name(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match="the package tensorboard is not installed"):
        Log(tmp_path / "log.csv", 1, tensorboard=tmp_path)
