import math
import weakref

import pytest
import torch
from emu_video.tests.training.test_checkpoint import load_checkpoint
from emu_video.training import loop
from emu_video.training.log import read_rows
from emu_video.training.loop import NotFinite, Settings, rate_at, train
from torch import nn

MEASURED = ("seconds", "clips_per_second", "memory")


def problem(seed: int = 0):
    torch.manual_seed(seed)
    model = nn.Linear(3, 1)
    frozen = nn.Linear(2, 2).requires_grad_(False)

    def loss(step: int, positions: range):
        x = torch.stack([torch.randn(3, generator=torch.Generator().manual_seed(1000 * step + i)) for i in positions])
        error = (model(x)[:, 0] - x @ torch.tensor([1.0, -2.0, 0.5])).square().mean()
        return error, {"steps": float(step), "clips": (0.0, len(positions))}

    return model, frozen, loss


def test_it_learns_and_leaves_frozen_weights(tmp_path):
    model, frozen, loss = problem()
    before = {k: v.clone() for k, v in frozen.state_dict().items()}
    result = train({"a": model, "b": frozen}, loss, Settings(400, rate=0.05, ema=0.9, batch=16), tmp_path, "run")
    assert loss(999, range(16))[0] < 1e-3
    assert (result.average["a"]["weight"] - torch.tensor([[1.0, -2.0, 0.5]])).abs().max() < 0.05
    assert not torch.equal(result.average["a"]["weight"], result.raw["a"]["weight"])
    assert all(torch.equal(result.average["b"][k], v) for k, v in before.items())
    assert (result.step, result.stopped) == (400, False)


@pytest.mark.parametrize("log_every", [20, 7])
def test_a_run_that_was_cut_off_ends_the_same(tmp_path, log_every):
    settings = Settings(60, rate=0.02, save_every=20, batch=4, log_every=log_every)
    model, _, loss = problem()
    whole = train({"m": model}, loss, settings, tmp_path, "whole")

    class Cut(BaseException):
        pass

    model, _, loss = problem()

    def cut(step: int, positions: range):
        if step == 47:
            raise Cut
        return loss(step, positions)

    with pytest.raises(Cut):
        train({"m": model}, cut, settings, tmp_path, "cut")
    assert load_checkpoint(tmp_path / "cut.pt")["step"] == 40
    model, _, loss = problem(seed=5)
    resumed = train({"m": model}, loss, settings, tmp_path, "cut")
    for states in ("average", "raw"):
        ours, theirs = getattr(whole, states)["m"], getattr(resumed, states)["m"]
        assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    rows = [[{k: v for k, v in row.items() if k not in MEASURED} for row in read_rows(tmp_path / f"{name}.csv")]
            for name in ("whole", "cut")]  # fmt: skip
    assert rows[0] == rows[1]


def test_a_run_that_is_stopped_saves_and_goes_on(tmp_path):
    settings = Settings(30, rate=0.02, save_every=20, batch=2)
    model, _, loss = problem()
    whole = train({"m": model}, loss, settings, tmp_path, "whole")
    model, _, loss = problem()
    seen, saved = [], []
    stopped = train(
        {"m": model}, loss, settings, tmp_path, "run",
        on_step=lambda progress: seen.append(progress.done), should_stop=lambda: len(seen) == 7,
        on_save=lambda step, states, raw: saved.append((step, states["m"]["weight"].clone())),
    )  # fmt: skip
    assert (stopped.step, stopped.stopped, seen) == (7, True, list(range(1, 8)))
    assert saved[0][0] == 7 and torch.equal(saved[0][1], stopped.average["m"]["weight"])
    resumed = train({"m": problem(3)[0]}, loss, Settings(7), tmp_path, "run")
    assert torch.equal(resumed.raw["m"]["weight"], stopped.raw["m"]["weight"])
    model, _, loss = problem(seed=5)
    resumed = train({"m": model}, loss, settings, tmp_path, "run")
    assert torch.equal(whole.raw["m"]["weight"], resumed.raw["m"]["weight"])


def test_batches_in_parts_have_the_gradient_of_the_whole(tmp_path):
    weights = []
    for at_once in (0, 1, 3):
        model, _, loss = problem()
        settings = Settings(5, rate=0.02, batch=8, at_once=at_once)
        weights.append(train({"m": model}, loss, settings, tmp_path, f"run{at_once}").raw["m"]["weight"])
    assert (weights[0] - weights[1]).abs().max() < 1e-6 and (weights[0] - weights[2]).abs().max() < 1e-6


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_loss_that_is_no_number_keeps_the_last_checkpoint(tmp_path, where):
    model, _, loss = problem()

    def bad(step: int, positions: range):
        value, figures = loss(step, positions)
        if step == 33 and 5 in positions:
            zero = model.weight.sum() * 0
            value = value + (zero / 0 if where == "loss" else torch.sqrt(zero))
        return value, figures

    settings = Settings(60, rate=0.02, save_every=20, batch=8, at_once=2)
    with pytest.raises(NotFinite, match=f"The {where} of step 34 is not a finite number") as raised:
        train({"m": model}, bad, settings, tmp_path, "run")
    assert raised.value.positions == (range(4, 6) if where == "loss" else None)
    assert model.weight.isfinite().all()
    state = load_checkpoint(tmp_path / "run.pt")
    assert state["step"] == 20 and state["modules"]["m"]["weight"].isfinite().all()


def test_an_error_before_a_checkpoint_keeps_the_last_one(tmp_path):
    model, _, loss = problem()

    def check(step, averaged, raw):
        assert averaged["m"]["weight"].shape == raw["m"]["weight"].shape
        if step == 10:
            raise ValueError("too large")

    with pytest.raises(ValueError, match="too large"):
        train({"m": model}, loss, Settings(20, save_every=5), tmp_path, "run", before_save=check)
    assert load_checkpoint(tmp_path / "run.pt")["step"] == 5


def test_a_checkpoint_is_freed_after_it_is_loaded(tmp_path, monkeypatch):
    model, _, loss = problem()
    train({"m": model}, loss, Settings(3), tmp_path, "run")
    loaded = []

    def load(path):
        state = load_checkpoint(path)
        loaded.append(weakref.ref(state["average"]["m.weight"]))
        return state

    monkeypatch.setattr(loop, "load_checkpoint", load)
    alive = []
    train({"m": model}, loss, Settings(4), tmp_path, "run", on_step=lambda _: alive.append(loaded[0]() is not None))
    assert alive == [False]


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    model, _, loss = problem()
    train({"m": model}, loss, Settings(3), tmp_path, "run", run={"seed": 1, "batch": 2})
    refusal = r"batch was 2 and is 4; seed was 1 and is 3\. Choose another name or run folder to start again"
    with pytest.raises(ValueError, match=refusal):
        train({"m": model}, loss, Settings(3), tmp_path, "run", run={"seed": 3, "batch": 4})


def test_learning_rate():
    settings = Settings(200, rate=1.0, warmup=100, final_rate=0.2)
    assert [rate_at(s, settings) for s in (0, 49, 99, 100)] == [0.01, 0.5, 1.0, 1.0]
    assert math.isclose(rate_at(150, settings), 0.6) and rate_at(199, settings) < 0.201
    assert rate_at(150, Settings(200, final_rate=1.0)) == 1.0


def test_the_eight_bit_optimiser_trains_and_resumes(tmp_path):
    """Weights of 4096 numbers and more have 8-bit moments, also in the checkpoint."""
    pytest.importorskip("torchao")
    settings = Settings(10, rate=0.02, save_every=5, batch=4, warmup=3, optimiser="adamw8bit")

    def run(name, seed=0, **options):
        torch.manual_seed(seed)
        model = nn.Linear(64, 128)

        def loss(step, positions):
            x = [torch.randn(64, generator=torch.Generator().manual_seed(1000 * step + i)) for i in positions]
            return (model(torch.stack(x)) - torch.stack(x).repeat(1, 2)).square().mean(), {}

        return train({"m": model}, loss, settings, tmp_path, name, echo=False, **options)

    seen = []
    whole = run("whole")
    run("cut", on_step=lambda progress: seen.append(progress.loss), should_stop=lambda: len(seen) == 5)
    resumed = run("cut", seed=3)
    assert resumed.step == 10 and torch.equal(resumed.raw["m"]["weight"], whole.raw["m"]["weight"])
    moments = load_checkpoint(tmp_path / "cut.pt")["optimiser"]["state"][0]["exp_avg"]
    assert type(moments).__name__ == "OptimState8bit" and moments.codes.dtype == torch.uint8


def test_the_eight_bit_optimiser_names_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchao.optim", None)
    model, _, loss = problem()
    with pytest.raises(ValueError, match="needs the package torchao"):
        train({"m": model}, loss, Settings(3, optimiser="adamw8bit"), tmp_path, "run")
