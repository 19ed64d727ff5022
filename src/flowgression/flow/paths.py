"""Probability paths between noise and data, and the conversions between velocity, score, noise and data.

Stochastic interpolants of SiT (arXiv 2401.08740, section 2 and appendix B), with t = 0 noise and t = 1 data:

    x_t = alpha(t) x1 + sigma(t) x0          v = alpha'(t) x1 + sigma'(t) x0          x0 ~ N(0, I)

x_t and v are two linear equations in (x1, x0), so any of velocity, score = -x0 / sigma, noise x0 and data x1
gives all the others wherever the equations can be solved.

Letters: x1 data, x0 noise, x the noisy sample x_t, v velocity, s score; all of one shape [..., *] and floating dtype.
t time in [0, 1], floating, shape = leading dimensions of x ([], [B], [B, S]); it is broadcast to the right.
D = alpha sigma' - sigma alpha', the determinant of the two equations (negative for every path here).
Every method raises InputError when the shapes do not fit each other.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from flowgression.errors import InputError, did_you_mean


class Coefficients(NamedTuple):
    """alpha, sigma and their derivatives by t; each a tensor of t's shape and dtype."""

    alpha: Tensor
    sigma: Tensor
    d_alpha: Tensor
    d_sigma: Tensor

    @property
    def determinant(self) -> Tensor:
        """D = alpha sigma' - sigma alpha'."""
        return self.alpha * self.d_sigma - self.sigma * self.d_alpha


class ProbabilityPath(ABC):
    """A path from noise to data. Subclasses give `coefficients`; everything else follows from it."""

    name: ClassVar[str]
    last_time: ClassVar[float] = 1.0
    """Training times are drawn below this; less than 1 where the velocity grows without bound at the data end."""

    @abstractmethod
    def coefficients(self, t: Tensor) -> Coefficients:
        """alpha, sigma, alpha', sigma' at t (any shape)."""

    def score_coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(a, b) with score = a v + b x; both of t's shape. Infinite where sigma(t) = 0."""
        c = self.coefficients(t)
        scale = c.sigma * c.determinant
        return -c.alpha / scale, c.d_alpha / scale

    def data_coefficients(self, t: Tensor, least_sigma: float = 0.0) -> tuple[Tensor, Tensor]:
        """(a, b) with v = a x1 + b x: -D / sigma and sigma' / sigma, with sigma replaced by `least_sigma` below it.

        Both of t's shape; infinite where sigma = 0 = least_sigma.
        """
        c = self.coefficients(t)
        sigma = c.sigma.clamp(min=least_sigma)
        return -c.determinant / sigma, c.d_sigma / sigma

    def interpolate(self, x1: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """x_t = alpha x1 + sigma x0."""
        c = self._coefficients_like(t, x1, x0)
        return c.alpha * x1 + c.sigma * x0

    def target_velocity(self, x1: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """v = alpha' x1 + sigma' x0, the regression target of flow matching."""
        c = self._coefficients_like(t, x1, x0)
        return c.d_alpha * x1 + c.d_sigma * x0

    @abstractmethod
    def second_derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha'' and sigma'' at t (any shape); both of t's shape and dtype."""

    def target_acceleration(self, x1: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """alpha'' x1 + sigma'' x0, the second derivative of x_t by t; 0 on the linear path."""
        d2_alpha, d2_sigma = self.second_derivatives(_expand_time(t, x1, x0))
        return d2_alpha * x1 + d2_sigma * x0

    def target_derivatives(self, x1: Tensor, x0: Tensor, t: Tensor, order: int) -> list[Tensor]:
        """The first `order` (1 or 2) derivatives of x_t by t: velocity, acceleration."""
        return [each(x1, x0, t) for each in (self.target_velocity, self.target_acceleration)[:order]]

    def _coefficients_like(self, t: Tensor, x: Tensor, other: Tensor) -> Coefficients:
        return self.coefficients(_expand_time(t, x, other))


@dataclass(frozen=True)
class LinearPath(ProbabilityPath):
    """alpha = t, sigma = 1 - t: straight lines (rectified flow), the path of ARFlow."""

    name: ClassVar[str] = "linear"

    def coefficients(self, t: Tensor) -> Coefficients:
        one = torch.ones_like(t)
        return Coefficients(t, 1 - t, one, -one)

    def second_derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), torch.zeros_like(t)


@dataclass(frozen=True)
class GVPPath(ProbabilityPath):
    """alpha = sin(pi t / 2), sigma = cos(pi t / 2): variance stays 1 for data of variance 1."""

    name: ClassVar[str] = "gvp"

    def coefficients(self, t: Tensor) -> Coefficients:
        angle = t * (math.pi / 2)
        alpha = torch.sin(angle)
        # cos(pi t / 2) written as a sine: exactly 0 at t = 1 and relatively exact close to it.
        sigma = torch.sin((1 - t) * (math.pi / 2))
        return Coefficients(alpha, sigma, sigma * (math.pi / 2), alpha * (-math.pi / 2))

    def second_derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        c = self.coefficients(t)
        return c.alpha * -((math.pi / 2) ** 2), c.sigma * -((math.pi / 2) ** 2)


@dataclass(frozen=True)
class VPPath(ProbabilityPath):
    """The variance-preserving diffusion of score SDEs (arXiv 2011.13456): alpha^2 + sigma^2 = 1.

    log alpha = -(1 - t)^2 (beta_max - beta_min) / 4 - (1 - t) beta_min / 2. alpha(0) is 0.0066, not 0, and
    sigma' is infinite at t = 1, hence `last_time`.
    """

    name: ClassVar[str] = "vp"
    last_time: ClassVar[float] = 1 - 1e-5
    beta_min: float = 0.1
    beta_max: float = 20.0

    def coefficients(self, t: Tensor) -> Coefficients:
        span = self.beta_max - self.beta_min
        left = 1 - t
        log_alpha = -0.25 * span * left**2 - 0.5 * self.beta_min * left
        d_log_alpha = 0.5 * (span * left + self.beta_min)
        alpha = torch.exp(log_alpha)
        sigma = torch.sqrt(-torch.expm1(2 * log_alpha))
        return Coefficients(alpha, sigma, alpha * d_log_alpha, -(alpha**2) * d_log_alpha / sigma)

    def second_derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        c = self.coefficients(t)
        d_log_alpha = c.d_alpha / c.alpha
        d2_alpha = c.alpha * (d_log_alpha**2 - 0.5 * (self.beta_max - self.beta_min))
        # Twice the derivative of alpha^2 + sigma^2 = 1.
        return d2_alpha, -(c.d_alpha**2 + c.alpha * d2_alpha + c.d_sigma**2) / c.sigma


PATHS: dict[str, type[ProbabilityPath]] = {path.name: path for path in (LinearPath, GVPPath, VPPath)}


def get_path(name: str) -> ProbabilityPath:
    """The path called "linear", "gvp" or "vp"; InputError for any other name."""
    if name not in PATHS:
        raise InputError(f"Unknown path {name!r}. {did_you_mean(name, PATHS)}")
    return PATHS[name]()


def _expand_time(t: Tensor, x: Tensor, other: Tensor) -> Tensor:
    """t with dimensions of size 1 appended, ready to multiply x."""
    if x.shape != other.shape:
        raise InputError(f"Two tensors of one shape are expected, not {list(x.shape)} and {list(other.shape)}.")
    if not t.is_floating_point():
        raise InputError(f"Times are floating numbers in [0, 1], not {t.dtype}; convert them first.")
    if t.shape != x.shape[: t.ndim]:
        raise InputError(
            f"Times of shape {list(t.shape)} are not the leading dimensions of a sample of shape {list(x.shape)}."
        )
    return t.reshape(t.shape + (1,) * (x.ndim - t.ndim))
