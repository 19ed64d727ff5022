"""The page's low-rank attention against the package's: polynomials, proved errors, certificates, outputs."""

import math

import pytest
import torch

from flowgression.ops import error_certificate, minimax_exp, rank, softmax_attention
from flowgression.ops.lowrank import naive_polynomial_attention
from tests.page.nodejs import needs_node, run_module

pytestmark = needs_node
CASES = [(2, 0.5), (2, 1.0), (4, 1.0), (2, 8.0), (4, 2.0), (6, 3.25), (8, 8.0), (10, 5.0)]


def test_polynomials_and_their_proved_errors() -> None:
    found = run_module(
        "const { minimaxExp } = await load('lowrank/minimax.js'); return given.map((c) => minimaxExp(...c));", CASES
    )
    for (degree, bound), mine in zip(CASES, found, strict=True):
        ours = minimax_exp(degree, bound)
        # Both exchanges stop at an eps within 1e-6 (relative) of the best; coefficients near it differ by its order.
        assert mine["eps"] == pytest.approx(ours.eps, rel=4e-6, abs=1e-12)
        for j, (a, b) in enumerate(zip(mine["coefficients"], ours.coefficients, strict=True)):
            assert abs(a - b) * bound**j <= 1e-2 * ours.eps * math.exp(bound) + 1e-12
        x = torch.linspace(-bound, bound, 5001, dtype=torch.float64)
        value = sum(c * x**j for j, c in enumerate(mine["coefficients"]))
        assert (value * torch.exp(-x) - 1).abs().max() <= mine["eps"]


def test_attention_error_and_certificate() -> None:
    generator = torch.Generator().manual_seed(3)
    q, k = (torch.nn.functional.normalize(torch.randn(9, 8, generator=generator).double(), dim=-1) for _ in range(2))
    v = torch.randn(9, 2, generator=generator).double()
    found = run_module(
        """const m = await load('lowrank/attention.js'); const { q, k, v, cases } = given;
        return cases.map(([degree, tau]) => ({
          exact: m.exactAttention(q, k, v, tau).output, poly: m.polynomialAttention(q, k, v, tau, degree).output,
          bound: m.certificate(v, 8, tau, degree), rank: m.rank(8, degree) }));""",
        {"q": q.tolist(), "k": k.tolist(), "v": v.tolist(), "cases": CASES},
    )
    for (degree, tau), mine in zip(CASES, found, strict=True):
        exact = softmax_attention(q, k, v, scale=tau).output
        poly = naive_polynomial_attention(q, k, v, degree=degree, bound=tau, scale=tau).output
        bound = error_certificate(v, degree=degree, bound=tau, head_dim=8)
        truncation = torch.tensor([each["truncation"] for each in mine["bound"]], dtype=torch.float64)
        unbounded = [math.inf if each["rounding"] is None else each["rounding"] for each in mine["bound"]]  # JSON
        rounding = torch.tensor(unbounded, dtype=torch.float64)
        torch.testing.assert_close(truncation, bound.truncation, rtol=1e-5, atol=1e-12)
        torch.testing.assert_close(rounding, bound.rounding, rtol=1e-2, atol=0)
        assert (torch.tensor(mine["exact"], dtype=torch.float64) - exact).abs().max() < 1e-12
        error = (torch.tensor(mine["poly"], dtype=torch.float64) - exact).abs()
        assert (error <= truncation + rounding).all()
        # Two polynomials within eps of exp each, so their rows differ by at most twice the certificate.
        assert (torch.tensor(mine["poly"], dtype=torch.float64) - poly).abs().max() <= 2 * (truncation + rounding).max()
        assert mine["rank"] == rank(8, degree)
