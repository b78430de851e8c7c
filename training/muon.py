"""The optimiser Muon: momentum whose matrices are replaced by the nearest ones with equal singular values.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the scale of the steps is that of
Liu et al. 2025, "Muon is Scalable for LLM Training", so a learning rate for AdamW can be kept. torch.optim.Muon takes
only weights with two dimensions, not those of convolutions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

SMALLEST = 32  # rows and columns of a matrix; AdamW updates smaller ones, and vectors
MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the polynomial that one iteration applies to every singular value: five bring them to between 0.7 and 1.2."""


class Muon(torch.optim.AdamW):
    """Muon for weights of linear layers and convolutions (outputs x all inputs of the kernel), AdamW for the rest.

    Parameters must not be sharded, because an update needs its whole matrix.
    """

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None and is_matrix(p)]
            if not parameters:
                continue
            updates = orthogonal_each(
                [self._momentum(parameter).flatten(1) for parameter in parameters], padded=parameters[0].is_cuda
            )
            for parameter, update in zip(parameters, updates, strict=True):
                size = group["lr"] * 0.2 * max(update.shape) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(update.reshape(parameter.shape), alpha=size)
                parameter.grad = None  # AdamW leaves it out
        return super().step(closure)

    def _momentum(self, parameter: Tensor) -> Tensor:
        """Return Nesterov's momentum of the gradient."""
        state, gradient = self.state[parameter], parameter.grad
        if not state:
            state |= {"step": torch.tensor(0.0), "momentum": torch.zeros_like(parameter)}  # AdamW loads "step"
        state["step"] += 1
        state["momentum"].mul_(MOMENTUM).add_(gradient)
        return gradient + MOMENTUM * state["momentum"]


def is_matrix(parameter: Tensor) -> bool:
    """Return whether Muon updates a parameter."""
    return parameter.ndim >= 2 and min(parameter.flatten(1).shape) >= SMALLEST


def orthogonal_each(matrices: list[Tensor], padded: bool = False) -> list[Tensor]:
    """Return `orthogonal` of matrices of several sizes.

    Those of one size are computed together. padded: also those that share only the shorter side, with zeros at the end
    of the other one, which do not change the rest. That is faster where operations cost more than their arithmetic.
    """
    together: dict[tuple[int, int], list[int]] = {}
    for number, matrix in enumerate(matrices):
        short, long = sorted(matrix.shape)
        together.setdefault((short, 0 if padded else long), []).append(number)
    results = dict[int, Tensor]()
    for numbers in together.values():
        tall = [matrices[i] if matrices[i].shape[0] >= matrices[i].shape[1] else matrices[i].mT for i in numbers]
        for i, result in zip(numbers, orthogonal(pad_sequence(tall, batch_first=True)), strict=True):
            rows, columns = matrices[i].shape
            results[i] = result[:rows] if rows >= columns else result[:columns].mT
    return [results[i] for i in range(len(matrices))]


def orthogonal(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Return matrices [n, rows, columns] with all singular values near 1, by Newton-Schulz iterations.

    They run in bfloat16, as in Muon's own code: the result is only near to orthogonal anyway.
    """
    x = (matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + 1e-7)).bfloat16()
    is_tall = x.shape[1] > x.shape[2]
    x = x.mT if is_tall else x
    a, b, c = COEFFICIENTS
    for _ in range(iterations):
        squares = x @ x.mT
        polynomial = torch.baddbmm(squares, squares, squares, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return (x.mT if is_tall else x).to(matrices.dtype)
