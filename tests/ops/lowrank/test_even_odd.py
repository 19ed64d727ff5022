"""Why features are not split into even and odd ones: the odd degrees are needed (docs/fastflowar.md)."""

import numpy as np
import pytest
from scipy.optimize import linprog

from flowgression.ops.lowrank.features import exponents


def uniform_error(values: np.ndarray, powers: tuple[int, ...], x: np.ndarray) -> float:
    """The least largest |values - polynomial| on the points x, of polynomials with these powers."""
    basis, ones = np.stack([x**power for power in powers], 1), np.ones((len(x), 1))
    cost, bounds = [0.0] * len(powers) + [1.0], [(None, None)] * len(powers) + [(0, None)]
    limits = np.block([[basis, -ones], [-basis, -ones]])
    return float(linprog(cost, A_ub=limits, b_ub=np.concatenate([values, -values]), bounds=bounds).fun)


def test_degree_4_without_its_odd_features_is_no_nearer_to_exp_than_degree_2() -> None:
    degrees = exponents(8, 4).sum(-1)
    assert ((degrees % 2 == 0).sum(), (degrees % 2 == 1).sum(), (degrees == 3).sum()) == (367, 128, 120)
    x = np.linspace(-1, 1, 401)
    odd = uniform_error(np.sinh(x), (1,), x)
    assert odd == pytest.approx(0.0443, abs=5e-5)
    for powers in ((0, 1, 2, 4), (0, 1, 2, 4, 6, 8)):
        assert uniform_error(np.exp(x), powers, x) >= odd - 1e-9
    assert uniform_error(np.exp(x), (0, 1, 2), x) == pytest.approx(0.0450, abs=5e-5)
    assert uniform_error(np.exp(x), (0, 1, 2, 3, 4), x) == pytest.approx(0.00055, abs=5e-6)
