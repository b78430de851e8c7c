import pytest
import torch
from emu_video.training.loop import Settings, train
from emu_video.training.muon import SMALLEST, Muon, orthogonal, orthogonal_each
from torch import nn

OPTIONS = {"lr": 0.02, "betas": (0.9, 0.99), "weight_decay": 0.1}


def parameters(*shapes, seed=0):
    """Return parameters with gradients."""
    generator = torch.Generator().manual_seed(seed)
    made = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    for each in made:
        each.grad = torch.randn(each.shape, generator=generator)
    return made


@pytest.mark.parametrize("shape", [(40, 80), (40, 200), (200, 40)])
def test_singular_values_become_equal(shape):
    torch.manual_seed(0)
    matrices = torch.randn(3, *shape) * torch.tensor([1e-4, 1.0, 1e4])[:, None, None]
    made = orthogonal(matrices)
    assert made.shape == matrices.shape
    values = torch.linalg.svdvals(made)
    assert values.min() > 0.6 and values.max() < 1.3
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    assert (torch.cosine_similarity((u @ v).flatten(1), made.flatten(1)) > 0.97).all()
    assert not orthogonal(torch.zeros(1, *shape)).any()


@pytest.mark.parametrize("padded", [False, True])
def test_matrices_of_several_sizes_are_those_of_one(padded):
    shapes = [(64, 128), (128, 64), (64, 300), (128, 128), (64, 128), (200, 128)]
    matrices = [parameter.detach() for parameter in parameters(*shapes)]
    made = orthogonal_each(matrices, padded=padded)
    for matrix, each in zip(matrices, made, strict=True):
        alone = orthogonal(matrix[None])[0]
        assert each.shape == matrix.shape and (each - alone).abs().max() < 0.05 * alone.abs().max()


def test_steps_are_those_of_torch():
    """torch.optim.Muon iterates in bfloat16."""
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    ours, theirs = (parameters((48, 96), (96, 48)) for _ in range(2))
    before = [each.detach().clone() for each in ours]
    options = {"lr": 0.02, "weight_decay": 0.1}
    optimisers = Muon(ours, **OPTIONS), torch.optim.Muon(theirs, **options, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        for made in (ours, theirs):
            torch.manual_seed(step)
            for each in made:
                each.grad = torch.randn(each.shape)
        for optimiser in optimisers:
            optimiser.step()
    for mine, other, first in zip(ours, theirs, before, strict=True):
        assert (mine - other).norm() < 0.02 * (mine - first).norm()


def test_convolutions_are_matrices():
    (kernel,) = parameters((48, 32, 3))
    flat = nn.Parameter(kernel.detach().flatten(1).clone())
    flat.grad = kernel.grad.flatten(1).clone()
    Muon([kernel], **OPTIONS).step()
    Muon([flat], **OPTIONS).step()
    assert torch.allclose(kernel.flatten(1), flat, atol=1e-7)


def test_vectors_and_small_matrices_are_left_to_adamw():
    shapes = (SMALLEST - 1, 200), (200, SMALLEST - 1), (50,), (64, 64)
    ours, theirs = parameters(*shapes), parameters(*shapes)
    Muon(ours, **OPTIONS).step()
    torch.optim.AdamW(theirs, **OPTIONS).step()
    assert [torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)] == [True, True, True, False]


def test_it_trains_and_resumes(tmp_path):
    settings = Settings(60, rate=0.1, save_every=20, batch=64, warmup=3, optimiser="muon")

    def run(name, seed=0, **options):
        torch.manual_seed(seed)
        model = nn.Linear(64, 128)

        def loss(step, positions):
            x = torch.stack([torch.randn(64, generator=torch.Generator().manual_seed(step + i)) for i in positions])
            return (model(x) - x.repeat(1, 2)).square().mean(), {}

        return train({"m": model}, loss, settings, tmp_path, name, echo=False, **options), loss

    seen = []
    whole, loss = run("whole")
    assert loss(999, range(64))[0] < 0.3  # 1.3 before
    run("cut", on_step=lambda progress: seen.append(progress.loss), should_stop=lambda: len(seen) == 25)
    resumed, _ = run("cut", seed=3)
    assert len(seen) == 25 and resumed.step == 60
    assert torch.equal(resumed.raw["m"]["weight"], whole.raw["m"]["weight"])
