import torch
from emu_video.training.loop import Settings, train
from emu_video.training.progress import load_checkpoint, save_checkpoint
from torch import nn


def problem(seed: int = 0):
    torch.manual_seed(seed)
    model = nn.Linear(3, 1)
    frozen = nn.Linear(2, 2).requires_grad_(False)

    def loss(step: int):
        x = torch.randn(16, 3, generator=torch.Generator().manual_seed(step))
        error = (model(x)[:, 0] - x @ torch.tensor([1.0, -2.0, 0.5])).square().mean()
        return error, {"steps": float(step)}

    return model, frozen, loss


def test_it_learns_and_leaves_frozen_weights(tmp_path):
    model, frozen, loss = problem()
    before = {k: v.clone() for k, v in frozen.state_dict().items()}
    averaged = train({"a": model, "b": frozen}, loss, Settings(400, rate=0.05, ema=0.9), tmp_path, "run")
    assert loss(999)[0] < 1e-3
    assert (averaged["a"]["weight"] - torch.tensor([[1.0, -2.0, 0.5]])).abs().max() < 0.05
    assert all(torch.equal(averaged["b"][k], v) for k, v in before.items())


def test_a_run_that_was_cut_off_ends_the_same(tmp_path):
    settings = Settings(60, rate=0.02, save_every=20)
    model, _, loss = problem()
    whole = train({"m": model}, loss, settings, tmp_path, "whole")

    class Cut(BaseException):
        pass

    model, _, loss = problem()

    def cut(step: int):
        if step == 47:
            raise Cut
        return loss(step)

    try:
        train({"m": model}, cut, settings, tmp_path, "cut")
    except Cut:
        pass
    assert load_checkpoint(tmp_path / "cut.pt")["step"] == 40
    model, _, loss = problem(seed=5)
    resumed = train({"m": model}, loss, settings, tmp_path, "cut")
    assert all(torch.equal(whole["m"][k], resumed["m"][k]) for k in whole["m"])


def test_log_and_checkpoint_files(tmp_path):
    model, _, loss = problem()
    train({"m": model}, loss, Settings(50), tmp_path, "run")
    lines = (tmp_path / "run.csv").read_text().splitlines()
    assert lines[0].split(",")[:2] == ["step", "seconds"] and [line.split(",")[0] for line in lines[1:]] == ["25", "50"]
    assert not list(tmp_path.glob("*.tmp"))
    assert load_checkpoint(tmp_path / "none.pt") is None
    save_checkpoint(tmp_path / "x.pt", a=torch.ones(2))
    assert torch.equal(load_checkpoint(tmp_path / "x.pt")["a"], torch.ones(2))
