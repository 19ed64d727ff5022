"""A polynomial for each head: the same as the heads one by one, and no head beyond its own certificate."""

import pytest
import torch
from torch import Tensor

from flowgression.errors import InputError
from flowgression.layers.bounded_attention import BoundedAttention
from flowgression.layers.lowrank_attention import ApproximatedAttention, HeadwiseAttention, LowRankState
from flowgression.layers.softmax_attention import SoftmaxAttention
from flowgression.ops.lowrank import truncation_factor
from flowgression.theory.degrees import by_heads
from flowgression.theory.survey import LayerBounds

POLYNOMIALS = [(2, 0.5), (4, 1.5), (2, 0.5), (2, 1.0)]
LENGTHS = (1, 4, 25)  # rank 15 of degree 2: dense, dense, features in the flow head


def inputs(lengths=LENGTHS, width: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 4, sum(lengths), width, generator=generator, dtype=torch.float64) for _ in range(3)]


def one_by_one(q: Tensor, k: Tensor, v: Tensor, shift: Tensor, lengths: tuple[int, ...], causal: bool) -> Tensor:
    outputs = []
    for head, (degree, bound) in enumerate(POLYNOMIALS):
        alone = ApproximatedAttention(SoftmaxAttention(1, 4, causal=causal), degree, bound, 1, 4).double()
        alone.shift.copy_(shift[head : head + 1])
        outputs.append(alone(q[:, [head]], k[:, [head]], v[:, [head]], lengths)[0])
    return torch.cat(outputs, dim=1)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("lengths", [LENGTHS, (4, 31)])
def test_every_head_is_its_own_polynomial(causal: bool, lengths: tuple[int, ...]) -> None:
    q, k, v = inputs(lengths)
    module = HeadwiseAttention(SoftmaxAttention(4, 4, causal=causal), POLYNOMIALS, 4).double()
    module.shift.copy_(torch.arange(16).view(4, 4) / 8)
    expected = one_by_one(q, k, v, module.shift, lengths, causal)
    torch.testing.assert_close(module(q, k, v, lengths)[0], expected, rtol=0, atol=1e-12)
    assert [len(group.heads) for group in module.groups] == [2, 1, 1]
    if not causal:
        return
    state, start = LowRankState(2), 0
    for length in lengths:
        here = slice(start, start + length)
        out, state = module(q[:, :, here], k[:, :, here], v[:, :, here], (length,), state)
        torch.testing.assert_close(out, expected[:, :, here], rtol=0, atol=1e-12)
        start += length
    assert state.nbytes == 2 * module.state_bytes(2, start, torch.float32)  # twice: float64
    assert not state.sums[:, 0, 15:].any()  # a head of degree 2 has the rank 15 of 70


def bounds_of(module: BoundedAttention, v: Tensor) -> LayerBounds:
    values = module.values(v)
    middle = values.mean(-2, keepdim=True)
    measured = LayerBounds("layer", v.shape[2], v.shape[3], v.shape[1], module.tau.detach().double(), v.new_zeros(4, 4))
    measured.diameters = 2 * (values - middle).norm(dim=-1).amax((0, 2))
    measured.lengths = measured.logits = measured.centred_logits = module.tau.detach().double()
    return measured


def hard_case(module: BoundedAttention, seed: int) -> list[Tensor]:
    """Two kinds of keys, at the two ends of a query's interval, in shares that a tilt of the weights moves farthest."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(1, 4, 1, 4, generator=generator, dtype=torch.float64)
    direction = q / q.norm(dim=-1, keepdim=True)
    count = int(torch.randint(1, 40, (), generator=generator))
    rare = direction * (1 if seed % 2 else -1)
    k = torch.cat([rare, -rare.expand(-1, -1, count, -1)], dim=2)
    apart = torch.randn(1, 4, 1, 4, generator=generator, dtype=torch.float64)
    return [q.expand(k.shape), k, torch.cat([apart, -apart.expand(-1, -1, count, -1)], dim=2)]


@pytest.mark.parametrize("certificate", [0.1, 0.01, 1e-4])
def test_no_head_exceeds_its_certificate(certificate: float) -> None:
    """And it is no empty promise: some head comes near to what its own degree and bound certify."""
    module = BoundedAttention(4, 4, 4.0, unit_values=True, causal=False).double()
    module.set_tau(torch.tensor([0.1, 0.6, 1.5, 3.0]))
    nearest = 0.0
    for seed in range(60):
        q, k, v = hard_case(module, seed)
        polynomial = by_heads(bounds_of(module, v), "cauchy-schwarz", certificate)
        other = HeadwiseAttention(module, polynomial.heads, 4).double()
        a, b = module.logit_factors(q, k)
        exact = torch.softmax(a @ b.mT, dim=-1) @ module.values(v)
        error = (other(q, k, v, (k.shape[2],))[0] - exact).norm(dim=-1).amax((0, 2))
        factors = torch.tensor([truncation_factor(eps) for eps in polynomial.epsilons.tolist()])
        promised = factors * bounds_of(module, v).diameters
        assert (promised <= certificate).all()
        assert (error <= promised + 1e-12).all(), seed
        nearest = max(nearest, (error / promised).max().item())
    assert len(set(polynomial.heads)) == 4
    assert polynomial.degree[0] <= polynomial.degree[-1]
    assert nearest > 0.5


def test_a_polynomial_for_each_head_and_no_more() -> None:
    with pytest.raises(InputError, match="3 polynomials for 4 heads"):
        HeadwiseAttention(SoftmaxAttention(4, 4, causal=True), POLYNOMIALS[:3], 4)
