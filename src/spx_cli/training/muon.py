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
            for direction_of, moved in ((_adam, lambda p: p.ndim < 2), (_muon, lambda p: p.ndim >= 2)):
                params = [p for p in group["params"] if p.grad is not None and moved(p)]
                if params:
                    directions = direction_of([self.state[p] for p in params], [p.grad for p in params], group)
                    torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
                    torch._foreach_add_(params, directions, alpha=-group["lr"])


# All parameters at once: a GPU takes longer to be told of a small tensor than to work on it.


def _adam(states: list[dict[str, Any]], grads: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
    slow, slower = group["betas"]
    for state, grad in zip(states, grads, strict=True):
        if not state:
            state.update(step=0, mean=torch.zeros_like(grad), square=torch.zeros_like(grad))
        state["step"] += 1
    means, squares = ([state[name] for state in states] for name in ("mean", "square"))
    torch._foreach_lerp_(means, grads, 1 - slow)
    torch._foreach_lerp_(squares, torch._foreach_mul(grads, grads), 1 - slower)
    sizes = torch._foreach_sqrt(torch._foreach_div(squares, [1 - slower ** state["step"] for state in states]))
    torch._foreach_add_(sizes, 1e-8)
    return list(torch._foreach_div(torch._foreach_div(means, [1 - slow ** state["step"] for state in states]), sizes))


def _muon(states: list[dict[str, Any]], grads: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
    for state, grad in zip(states, grads, strict=True):
        if not state:
            state["momentum"] = torch.zeros_like(grad)
    momenta = [state["momentum"] for state in states]
    torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
    ahead = torch._foreach_lerp(grads, momenta, group["momentum"])
    alike: dict[tuple[int, int], list[int]] = {}
    for i, grad in enumerate(grads):
        alike.setdefault((grad.shape[0], grad[0].numel()), []).append(i)
    directions = list(ahead)
    for shape, places in alike.items():
        found = orthogonalise(torch.stack([ahead[i].flatten(1) for i in places])) * (0.2 * sqrt(max(shape)))
        for i, direction in zip(places, found, strict=True):
            directions[i] = direction.view(grads[i].shape)
    return directions


def orthogonalise(matrices: Tensor) -> Tensor:
    """Return about the nearest matrices (..., m, n) with orthonormal rows or columns: singular values of 0.7 to 1.2."""
    x: Tensor = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + 1e-12)
    if turned := x.shape[-2] > x.shape[-1]:
        x = x.mT
    for _ in range(5):  # Newton-Schulz, with coefficients that grow small singular values fastest
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.mT if turned else x
