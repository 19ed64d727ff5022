"""Diffusion coefficients w(t) of the sampling SDE  dx = (v + w s) dt + sqrt(2 w) dW  (SiT, section 3.4).

Every w >= 0 gives the same distribution at every time if v and s are exact; the choice only trades the errors
of the network against those of the discretisation.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from flowgression.errors import InputError, did_you_mean
from flowgression.flow.paths import ProbabilityPath


def _sbdm(t: Tensor, path: ProbabilityPath, norm: float) -> Tensor:
    # The forward diffusion that has this path, as in score-based models; infinite where alpha = 0.
    c = path.coefficients(t)
    return norm * -c.sigma * c.determinant / c.alpha


# `norm` multiplies w, except in "decreasing", where it is the amplitude of the cosine, as in SiT.
DIFFUSIONS: dict[str, Callable[[Tensor, ProbabilityPath, float], Tensor]] = {
    "sigma": lambda t, path, norm: norm * path.coefficients(t).sigma,
    "linear": lambda t, path, norm: norm * (1 - t),
    "constant": lambda t, path, norm: torch.full_like(t, norm),
    "decreasing": lambda t, path, norm: 0.25 * (norm * torch.cos(math.pi * t) + 1) ** 2,
    "increasing-decreasing": lambda t, path, norm: norm * torch.sin(math.pi * t) ** 2,
    "sbdm": _sbdm,
}


def diffusion_coefficient(name: str, t: Tensor, path: ProbabilityPath, norm: float = 1.0) -> Tensor:
    """w(t) >= 0 of the diffusion called `name` at times t in [0, 1] (any shape, floating); t's shape and dtype.

    `norm` >= 0 is the magnitude: it multiplies w; in "decreasing", (norm cos(pi t) + 1)^2 / 4, it is the amplitude.
    Raises InputError for an unknown name or a negative or non-finite norm.
    """
    if name not in DIFFUSIONS:
        raise InputError(f"Unknown diffusion {name!r}. {did_you_mean(name, DIFFUSIONS)}")
    if not (math.isfinite(norm) and norm >= 0):
        raise InputError(f"diffusion_norm must be a finite number >= 0, not {norm}.")
    return DIFFUSIONS[name](t, path, norm)
