"""Checks between stages, on unfinished runs and on the shipped weights."""

import pytest
import torch
from emu_video.pocket.evaluate import gates
from emu_video.pocket.recipe import RECIPE
from emu_video.pocket.shipped import CHECKPOINT
from emu_video.pocket.stages import autoencoder
from emu_video.pocket.world.render import coverage

from .tiny import tiny_run

SQUARE_TO_CIRCLE = 0.172  # area between a square and the nearest circle, over that of the square, by integration


def test_a_run_that_has_begun_is_checked_and_otherwise_the_shipped_weights(tmp_path):
    assert gates.run_with(tmp_path, "image").checkpoint == CHECKPOINT
    gates.Run(tmp_path, RECIPE).path("image").touch()
    assert gates.run_with(tmp_path, "image").checkpoint is None


@pytest.mark.slow
def test_an_unfinished_autoencoder_is_checked(tmp_path, capsys):
    run = tiny_run(tmp_path)
    stops = iter([False, True])
    autoencoder.make(run, "autoencoder", echo=False, should_stop=lambda: next(stops))
    assert not run.path("autoencoder").exists() and gates.decode(run, torch.zeros(1, 16, 4, 4)).shape == (1, 32, 32, 3)
    gates.autoencoder_gate(run, 2)
    assert "psnr" in capsys.readouterr().out


def test_shapes_are_bent_by_noise(tmp_path, capsys):
    run = gates.run_with(tmp_path, "image")
    gates.shapes_gate(run, steps=4, scale=2.0, count=6)
    first, *levels = capsys.readouterr().out.splitlines()
    assert first.startswith("autoencoder alone: ") and first.endswith("of the area, median of 6 pictures")
    errors = [float(line.rpartition(" ")[2].rstrip("%")) for line in levels]
    assert len(errors) == len(gates.LEVELS) and errors[0] < errors[-1]


def test_circles_are_measured_for_both_samplers(tmp_path, capsys, monkeypatch):
    run = gates.Run(tmp_path, RECIPE, CHECKPOINT)

    def drawn(model, captions, steps, scale, *, seed, eta):
        """Draw circles as the result of DDIM, and squares as that of DDPM."""
        at = (torch.full((len(captions),), value) for value in (0.5, 0.5, 0.25, 0.0))
        pictures = 250 * coverage("square" if eta else "circle", *at)[:, None].expand(-1, 3, -1, -1)
        return gates.encode(run, pictures.to(torch.uint8))

    monkeypatch.setattr(gates, "pictures_from_text", drawn)
    gates.circles_gate(run, steps=25, scale=3.0, count=8)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["DDIM, 25 steps", "DDPM, 25 steps"]
    round_ones, squares = (float(line.partition(": ")[2].partition("%")[0]) for line in lines)
    assert round_ones < 3 and squares == pytest.approx(100 * SQUARE_TO_CIRCLE, abs=2)
    assert {path.name for path in tmp_path.glob("*.png")} == {"circles_DDIM.png", "circles_DDPM.png"}


def test_random_samplers_draw_other_pictures(tmp_path):
    model = gates.Run(tmp_path, RECIPE, CHECKPOINT).image_model()
    made = [gates.pictures_from_text(model, ["a red circle"], 4, 3.0, seed=5, eta=eta) for eta in (0.0, 0.0, 1.0)]
    assert torch.equal(made[0], made[1]) and not torch.allclose(made[0], made[2], atol=0.1)
