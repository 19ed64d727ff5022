"""The kinds of attention that get compiled: softmax, of bounded logits, of values of length 1, a polynomial for exp.

Letters: d width of a head, h heads, R monomials.
"""

from itertools import combinations_with_replacement
from math import factorial, prod
from typing import NamedTuple

import numpy as np


class Polynomial(NamedTuple):
    """What replaces exp in low-rank attention: P(x) = sum_j coefficients[j] x^j, of degree g.

    tokens: the most tokens that a sum runs over.
    """

    coefficients: tuple[float, ...]
    tokens: int

    @property
    def degree(self) -> int:
        return len(self.coefficients) - 1

    def exponents(self, size: int) -> np.ndarray:
        """The exponents a [R, d] of all monomials of d = `size` variables, by degree, then lexicographically."""
        rows = [c for g in range(self.degree + 1) for c in combinations_with_replacement(range(size), g)]
        return np.array([[row.count(i) for i in range(size)] for row in rows])

    def weights(self, tau: np.ndarray, size: int) -> np.ndarray:
        """w_a = c_|a| tau^|a| |a|! / a! for every head and monomial: tau [h] -> [h, R]."""
        a = self.exponents(size)
        multinomials = [factorial(sum(row)) / prod(map(factorial, row)) for row in a.tolist()]
        degrees = a.sum(1)
        return np.array(self.coefficients)[degrees] * multinomials * np.asarray(tau)[:, None] ** degrees


class Attention(NamedTuple):
    """How values are weighed: by softmax of q.k / sqrt(d), unless told otherwise.

    cosine: logits tau cos(q, k - centre). unit_values: values are normalised to length 1.
    polynomial: in place of exp. shifted: it was put into a trained softmax, which it reads at k - shift.
    """

    cosine: bool = False
    unit_values: bool = False
    polynomial: Polynomial | None = None
    shifted: bool = False

    @property
    def folds(self) -> bool:
        """Whether all keys fold into a state of fixed size (FastFlowAR)."""
        return self.polynomial is not None and not self.shifted


SOFTMAX = Attention()
