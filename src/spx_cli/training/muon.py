"""Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon): descent by orthogonalised momentum."""

from collections.abc import Iterable
from math import sqrt
from typing import Any

import torch
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """Muon for the weights of linear maps and convolutions, Adam for parameters of one axis.

    One learning rate serves both: an orthogonalised step is scaled to the size of a step of Adam (Liu et al., 2025,
    arXiv:2502.16982, equation 4). Weight decay is decoupled, as in AdamW. torch.optim.Muon takes matrices only.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "betas": betas})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    direction = (_adam if p.ndim < 2 else _muon)(self.state[p], p.grad, group)
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-group["lr"])


def _adam(state: dict[str, Any], grad: Tensor, group: dict[str, Any]) -> Tensor:
    slow, slower = group["betas"]
    if not state:
        state.update(step=0, mean=torch.zeros_like(grad), square=torch.zeros_like(grad))
    state["step"] += 1
    state["mean"].lerp_(grad, 1 - slow)
    state["square"].lerp_(grad.square(), 1 - slower)
    mean: Tensor = state["mean"] / (1 - slow ** state["step"])
    square: Tensor = state["square"] / (1 - slower ** state["step"])
    return mean / (square.sqrt() + 1e-8)


def _muon(state: dict[str, Any], grad: Tensor, group: dict[str, Any]) -> Tensor:
    if not state:
        state["momentum"] = torch.zeros_like(grad)
    state["momentum"].lerp_(grad, 1 - group["momentum"])
    ahead = grad.lerp(state["momentum"], group["momentum"])
    return orthogonalise(ahead.flatten(1)).view_as(grad) * 0.2 * sqrt(max(grad.shape[0], grad[0].numel()))


def orthogonalise(matrix: Tensor) -> Tensor:
    """Return about the nearest matrix with orthonormal rows or columns: singular values between 0.7 and 1.2."""
    x: Tensor = matrix / (matrix.norm() + 1e-12)
    if turned := x.shape[0] > x.shape[1]:
        x = x.T
    for _ in range(5):  # Newton-Schulz, with coefficients that grow small singular values fastest
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if turned else x
