"""Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon): descent by orthogonalised momentum."""

from collections.abc import Iterable
from functools import partial
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from spx_cli.methods._graphs import Graphs


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
        self._graphs = Graphs()
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "betas": betas})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for place, group in enumerate(self.param_groups):
            trained = [p for p in group["params"] if p.grad is not None]
            for params, directions_of in (
                ([p for p in trained if p.ndim < 2], _adam),
                ([p for p in trained if p.ndim >= 2], partial(self._muon, place)),
            ):
                if params:
                    directions = directions_of([self.state[p] for p in params], [p.grad for p in params], group)
                    torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
                    torch._foreach_add_(params, directions, alpha=-group["lr"])

    def _muon(
        self, place: int, states: list[dict[str, Any]], grads: list[Tensor], group: dict[str, Any]
    ) -> list[Tensor]:
        for state, grad in zip(states, grads, strict=True):
            if not state:
                state["momentum"] = torch.zeros_like(grad)
        momenta = [state["momentum"] for state in states]
        torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
        ahead = torch._foreach_lerp(grads, momenta, group["momentum"])
        if grads[0].device.type != "cuda":
            return _orthogonal(*ahead)
        return list(self._graphs.run((place, *(grad.shape for grad in grads)), _orthogonal, *ahead))


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


def _orthogonal(*ahead: Tensor) -> list[Tensor]:
    """Return what `orthogonalise` makes of gradients, at the size of a step of Adam; those of one shape together."""
    alike: dict[tuple[int, ...], list[int]] = {}
    flat = [x.flatten(1) for x in ahead]
    flat = [x.T if x.shape[0] > x.shape[1] else x for x in flat]
    for i, x in enumerate(flat):
        alike.setdefault(x.shape, []).append(i)
    directions = list(ahead)
    for shape, places in alike.items():
        found = orthogonalise(torch.stack([flat[i] for i in places])) * (0.2 * sqrt(shape[1]))
        for i, direction in zip(places, found, strict=True):
            turned = direction.T if ahead[i].shape[0] > shape[0] else direction
            directions[i] = turned.reshape(ahead[i].shape)
    return directions


def orthogonalise(matrices: Tensor) -> Tensor:
    """Return about the nearest matrices (..., m, n) with orthonormal rows or columns: singular values of 0.7 to 1.2.

    Under autocast it computes, and returns them, in that type.
    """
    x: Tensor = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + 1e-12)
    where = x.device.type
    if torch.is_autocast_enabled(where):  # once, not for each product
        x = x.to(torch.get_autocast_dtype(where))
    if turned := x.shape[-2] > x.shape[-1]:
        x = x.mT
    shape, x = x.shape, x.reshape(-1, *x.shape[-2:])
    for _ in range(5):  # Newton-Schulz, with coefficients that grow small singular values fastest
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    x = x.view(shape)
    return x.mT if turned else x
