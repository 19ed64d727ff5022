"""Baselines: other low-rank approximations of softmax attention, for study only. Same call as `softmax_attention`.

Letters as in types.py; m is the rank. All of them stay in float64 inside, so that what is compared is the method.
"""

import torch
from torch import Tensor

from flowgression.errors import InputError
from flowgression.ops.lowrank.types import check_inputs, logit_scale


def performer_attention(
    q: Tensor, k: Tensor, v: Tensor, *, num_features: int, generator: torch.Generator, scale: float | None = None
) -> Tensor:
    """Positive orthogonal random features: exp(x.y) = E[exp(w.x - |x|^2/2) exp(w.y - |y|^2/2)] over normal w.

    Choromanski et al. 2021, "Rethinking Attention with Performers", FAVOR+. The error falls with 1/sqrt(num_features).

    Args:
        q, k, v: [..., M, d], [..., N, d], [..., N, e].
        num_features: m >= 1.
        generator: randomness of the directions w, on the CPU.
        scale: factor on the logits; 1/sqrt(d) by default.

    Returns:
        output [..., M, e] in the dtype of v.
    """
    x, y, values = _prepare(q, k, v, scale, num_features)
    directions = _orthogonal_normal(num_features, q.shape[-1], generator).to(q.device)

    def features(z: Tensor) -> Tensor:
        return (z @ directions.T - z.square().sum(-1, keepdim=True) / 2).exp()

    return _normalise(features(x), features(y), values).to(v.dtype)


def nystrom_attention(
    q: Tensor, k: Tensor, v: Tensor, *, num_landmarks: int, generator: torch.Generator, scale: float | None = None
) -> Tensor:
    """Nystrom's method on the kernel exp(x.y): K(Q, L) K(L, L)^-1 K(L, K), landmarks L drawn from queries and keys.

    After Williams and Seeger 2001, "Using the Nystrom Method to Speed Up Kernel Machines". The landmarks depend on the
    data of all tokens, so the method has no causal or recurrent form. Arguments and result as `performer_attention`.
    """
    x, y, values = _prepare(q, k, v, scale, num_landmarks)
    tokens = torch.cat([x, y], -2)
    chosen = torch.randperm(tokens.shape[-2], generator=generator)[:num_landmarks].to(q.device)
    landmarks = tokens[..., chosen, :]
    among = (landmarks @ landmarks.mT).exp()
    left = (x @ landmarks.mT).exp() @ torch.linalg.pinv(among, hermitian=True, rtol=1e-12)
    return _normalise(left, (y @ landmarks.mT).exp(), values).to(v.dtype)


def svd_attention(q: Tensor, k: Tensor, v: Tensor, *, num_components: int, scale: float | None = None) -> Tensor:
    """The best rank-m approximation of the matrix exp(scale q k^T) in the Frobenius norm.

    Time O(M N min(M, N)). Arguments and result as `performer_attention`.
    """
    x, y, values = _prepare(q, k, v, scale, num_components)
    left, singular, right = torch.linalg.svd((x @ y.mT).exp(), full_matrices=False)
    m = num_components
    return _normalise(left[..., :m] * singular[..., None, :m], right[..., :m, :].mT, values).to(v.dtype)


def _prepare(q: Tensor, k: Tensor, v: Tensor, scale: float | None, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys in float64, each times the root of the scale, and the values."""
    check_inputs(q, k, v, None)
    factor = logit_scale(scale, q)
    if factor < 0 or size < 1:
        raise InputError(f"expected scale >= 0 and a rank >= 1, got scale={factor} and rank {size}.")
    return q.double() * factor**0.5, k.double() * factor**0.5, v.double()


def _normalise(left: Tensor, right: Tensor, v: Tensor) -> Tensor:
    """(left right^T v) over its row sums, for left [..., M, m] and right [..., N, m]."""
    return left @ (right.mT @ v) / (left @ right.sum(-2)[..., None])


def _orthogonal_normal(count: int, d: int, generator: torch.Generator) -> Tensor:
    """`count` rows of normal direction and length, orthogonal within each group of d. float64 [count, d]"""
    groups = -(-count // d)
    normal = torch.randn(groups, d, d, generator=generator, dtype=torch.float64)
    rotations, triangles = torch.linalg.qr(normal)
    rotations = rotations * triangles.diagonal(dim1=-2, dim2=-1).sign()[:, None]  # else no uniform directions
    rows = rotations.mT.reshape(groups * d, d)[:count]
    return rows * torch.randn(count, d, generator=generator, dtype=torch.float64).norm(dim=-1, keepdim=True)
