"""The optimiser Muon: momentum whose matrices are replaced by the nearest ones with equal singular values.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the scale of the steps is that of
Liu et al. 2025, "Muon is Scalable for LLM Training", so a learning rate for AdamW can be kept. torch.optim.Muon takes
only weights with two dimensions, not those of convolutions.
"""

from __future__ import annotations

import torch
from torch import Tensor

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
            same: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None and is_matrix(parameter):
                    same.setdefault(parameter.flatten(1).shape, []).append(parameter)
            for shape, parameters in same.items():
                updates = orthogonal(torch.stack([self._momentum(each).flatten(1) for each in parameters]))
                size = group["lr"] * 0.2 * max(shape) ** 0.5
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(size * update.reshape(parameter.shape))
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
