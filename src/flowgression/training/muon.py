"""Muon: the running mean of a matrix's gradient is made orthogonal before it is subtracted.

K. Jordan and others, https://kellerjordan.github.io/posts/muon. Letters: N matrices of one shape, m <= n their sides.
"""

import time
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # a, b, c of p(G) = a + bG + cG^2, from the page above
ITERATIONS = 5
MOMENTUM = 0.95
_WORTH_ROUNDING = 1.5  # bfloat16 has to be so much faster than float32 to be taken in its place
_LARGEST_TRIAL = 512  # rows and columns of the matrix by which they are compared


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose steps are made orthogonal, of the size of AdamW's.

    A step is scaled by 0.2 sqrt(max(rows, columns)) ("Muon is Scalable for LLM Training", arXiv 2502.16982, equation
    4), the typical size of AdamW's, so that both can share one learning rate and weight decay. Matrices of equal
    shape are orthogonalised together.

    Args:
        matrices: parameters of two dimensions, whole on this process.
        lr, weight_decay: as AdamW's (the decay is decoupled).
        dtype: of the products that make steps orthogonal; everything else has the parameters' dtype.
    """

    def __init__(self, matrices: Iterable[nn.Parameter], lr: float, weight_decay: float, dtype: torch.dtype) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step; matrices without a gradient stay as they are."""
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            if not moving:
                continue
            gradients: list[Tensor] = [p.grad for p in moving]
            means = [self.state[p].setdefault("momentum_buffer", torch.zeros_like(p)) for p in moving]
            torch._foreach_lerp_(means, gradients, 1 - MOMENTUM)
            updates = torch._foreach_lerp(gradients, means, MOMENTUM)
            torch._foreach_mul_(moving, 1 - group["lr"] * group["weight_decay"])
            for indices in _by_shape(moving):
                steps = orthogonal(torch.stack([updates[i] for i in indices]).to(self.dtype))
                size = group["lr"] * 0.2 * max(steps.shape[1:]) ** 0.5
                torch._foreach_add_([moving[i] for i in indices], list(steps.to(moving[0].dtype)), alpha=-size)


def orthogonal(matrices: Tensor) -> Tensor:
    """Nearly orthogonal matrices with the singular vectors of the given ones; all singular values in about [0.7, 1.2].

    Newton-Schulz: X <- p(X X^T) X, five times, from X of Frobenius norm 1. All factors are polynomials of the first
    X X^T, so where n is well above m the m x m matrices alone are iterated, and X is multiplied once at the end; which
    of both is done is decided by counting multiplications.

    Args:
        matrices: [N, m, n] or [N, n, m].

    Returns:
        The same shape and dtype.
    """
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonal(matrices.mT).mT
    x = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    small, large = x.shape[1:]
    direct = ITERATIONS * (2 * small * small * large + small**3)
    by_gram = 2 * small * small * large + (4 * ITERATIONS - 3) * small**3
    return _iterate_gram(x) if by_gram < direct else _iterate(x)


def _iterate(x: Tensor) -> Tensor:
    a = COEFFICIENTS[0]
    for _ in range(ITERATIONS):
        x = torch.baddbmm(x, _without_constant(x @ x.mT), x, beta=a)
    return x


def _iterate_gram(x: Tensor) -> Tensor:
    """The same products in another order: G <- p(G)^2 G and Q <- p(G) Q, then Q X."""
    gram = x @ x.mT
    product: Tensor | None = None
    for iteration in range(ITERATIONS):
        factor = _without_constant(gram)
        factor.diagonal(dim1=1, dim2=2).add_(COEFFICIENTS[0])
        product = factor if product is None else factor @ product
        if iteration < ITERATIONS - 1:
            gram = factor @ (factor @ gram)
    assert product is not None
    return product @ x


def _without_constant(gram: Tensor) -> Tensor:
    """bG + cG^2."""
    _, b, c = COEFFICIENTS
    return torch.baddbmm(gram, gram, gram, beta=b, alpha=c)


def faster_dtype(shapes: Sequence[tuple[int, ...]], device: torch.device) -> torch.dtype:
    """float32, or bfloat16 where a short measurement finds its products at least 1.5 times as fast on this device.

    The processors of one family differ in it by factors of 10 up and down, and no name tells them apart.

    Args:
        shapes: of the matrices, at least one; the largest is tried, cut to 512 rows and columns.
    """
    rows, columns = (min(side, _LARGEST_TRIAL) for side in max(shapes, key=lambda s: s[0] * s[1]))
    single = torch.ones(1, rows, columns, device=device)
    trials = {torch.float32: single, torch.bfloat16: single.bfloat16()}
    best = dict.fromkeys(trials, float("inf"))
    for _ in range(4):  # in turn, so that other work on the machine meets both
        for dtype, x in trials.items():
            begin = time.perf_counter()
            (x @ x.mT).sum().item()  # item waits for the device
            best[dtype] = min(best[dtype], time.perf_counter() - begin)
    return torch.bfloat16 if best[torch.bfloat16] * _WORTH_ROUNDING <= best[torch.float32] else torch.float32


def _by_shape(parameters: Sequence[Tensor]) -> list[list[int]]:
    """Indices of parameters of equal shape, in the order in which the shapes come first."""
    found: dict[tuple[int, ...], list[int]] = {}
    for index, parameter in enumerate(parameters):
        found.setdefault(tuple(parameter.shape), []).append(index)
    return list(found.values())
