"""Low-rank attention over scales against the dense polynomial, softmax and its certificate."""

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgression import InputError
from flowgression.layers import lowrank_attention as layer
from flowgression.layers.lowrank_attention import ApproximatedAttention, LowRank, LowRankAttention, LowRankState
from flowgression.layers.scale_attention import ScaleAttention, ScaleCrossAttention
from flowgression.layers.softmax_attention import SoftmaxAttention
from flowgression.ops import error_certificate, lowrank_attention, softmax_attention
from flowgression.ops.lowrank import naive_polynomial_attention
from flowgression.ops.lowrank.dense import dense_attention

LENGTHS = (1, 4, 9)


def attention(causal: bool = True, degree: int = 2, max_tau: float = 2.0) -> LowRankAttention:
    module = LowRankAttention(2, 4, LowRank(degree, max_tau), causal=causal).double()
    generator = torch.Generator().manual_seed(3)
    torch.nn.init.normal_(module.tau_logit, generator=generator)
    module.centre.normal_(generator=generator)
    return module


def inputs(lengths=LENGTHS, factor: float = 1.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [factor * torch.randn(3, 2, sum(lengths), 4, generator=generator, dtype=torch.float64) for _ in range(3)]


def test_causal_form_is_the_masked_polynomial() -> None:
    module, (q, k, v) = attention(), inputs()
    out, state = module(q, k, v, LENGTHS)
    a, b = module.logit_factors(q, k)
    expected = naive_polynomial_attention(a, b, v, degree=2, bound=2.0, scale=1.0, block_lengths=LENGTHS)
    torch.testing.assert_close(out, expected.output, rtol=0, atol=1e-12)
    assert state is None


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("lengths", [(1, 4, 10), (1, 4, 25), (1, 4, 26), (4, 30, 31)])
@pytest.mark.parametrize("causal", [True, False])
def test_dense_form_below_the_rank_and_features_above_are_the_same(
    lengths: tuple[int, ...], causal: bool, gradients: bool
) -> None:
    """Rank 15: with 30 tokens the matrix is made, with 31 the features; the state always makes features."""
    module, (q, k, v) = attention(causal), inputs(lengths)
    with torch.set_grad_enabled(gradients), mock.patch.object(layer, "dense_attention", wraps=dense_attention) as dense:
        out, _ = module(q, k, v, lengths)
    sizes = [sum(lengths)] if causal else lengths
    assert dense.call_count == sum(size <= 30 for size in sizes)
    start = 0
    state = LowRankState(3)
    for length in lengths:
        here = slice(start, start + length)
        if causal:
            part, state = module(q[:, :, here], k[:, :, here], v[:, :, here], (length,), state)
        else:
            a, b = module.logit_factors(q[:, :, here], k[:, :, here])
            part = lowrank_attention(a, b, v[:, :, here], degree=2, bound=2.0, scale=1.0).output
        torch.testing.assert_close(out[:, :, here], part, rtol=0, atol=1e-12)
        start += length


def test_no_more_than_256_tokens_are_dense() -> None:
    """Rank 2,145: however much the features cost, logits of long sequences would take the memory of 4 B A T^2."""
    module = LowRankAttention(1, 64, LowRank(2, 2.0), causal=True)
    with mock.patch.object(layer, "dense_attention", wraps=dense_attention) as dense:
        for tokens in (256, 257):
            module(*torch.randn(3, 1, 1, tokens, 64).unbind(0), (tokens,))
    assert [call.args[0].shape[2] for call in dense.call_args_list] == [256]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    """Squares of logits times 30 values of 60 exceed what float16 holds; the certificate is that of float32."""
    module = ApproximatedAttention(SoftmaxAttention(1, 4, causal=False), 2, 4.0, 1, 4)
    q = torch.full((1, 1, 30, 4), 1.4).to(dtype)
    v = torch.full_like(q, 60.0)
    out, _ = module(q, q, v, (30,))
    certificate = error_certificate(v, degree=2, bound=4.0, head_dim=4).rounding
    assert out.dtype == dtype
    assert ((out.double() - 60).abs() <= certificate[:, :, None]).all()


def test_every_scale_for_itself() -> None:
    module, (q, k, v) = attention(causal=False), inputs()
    out, _ = module(q, k, v, LENGTHS)
    for part in (slice(0, 1), slice(1, 5), slice(5, 14)):
        alone, _ = module(q[:, :, part], k[:, :, part], v[:, :, part], (part.stop - part.start,))
        torch.testing.assert_close(out[:, :, part], alone, rtol=0, atol=1e-13)


def test_scale_by_scale_with_a_state_of_constant_size() -> None:
    module, (q, k, v) = attention(), inputs()
    expected, _ = module(q, k, v, LENGTHS)
    state, start, sizes = LowRankState(3), 0, []
    for length in LENGTHS:
        here = slice(start, start + length)
        out, state = module(q[:, :, here], k[:, :, here], v[:, :, here], (length,), state)
        torch.testing.assert_close(out, expected[:, :, here], rtol=0, atol=1e-12)
        sizes.append(state.nbytes)
        start += length
    assert sizes == [2 * module.state_bytes(3, 14, torch.float32)] * 3  # twice, as this test runs in float64
    assert module.state_bytes(3, 14, torch.float32) == 4 * 3 * 2 * 15 * 5


@settings(max_examples=30, deadline=None)
@given(factor=st.floats(1e-3, 1e3), tau=st.floats(0.01, 4.0), degree=st.sampled_from([2, 4]))
def test_any_input_keeps_the_certificate(factor: float, tau: float, degree: int) -> None:
    """Bounded by construction: however large the inputs, the distance from softmax stays within the certificate."""
    module, (q, k, v) = attention(degree=degree, max_tau=4.0), inputs(factor=factor)
    module.set_tau(torch.full((2,), tau))
    a, b = module.logit_factors(q, k)
    assert (a @ b.mT).abs().max() <= 4.0
    out, _ = module(q, k, v, LENGTHS)
    exact = softmax_attention(a, b, v, scale=1.0, block_lengths=LENGTHS).output
    certificate = error_certificate(v, degree=degree, bound=4.0, head_dim=4).total
    assert ((out - exact).abs().amax(2) <= certificate).all()


def test_tau_is_what_was_set_up_to_its_bound() -> None:
    module = attention(max_tau=2.0)
    module.set_tau(torch.tensor([0.5, 7.0]))
    torch.testing.assert_close(module.tau, torch.tensor([0.5, 1.96]), rtol=1e-6, atol=0)
    with pytest.raises(InputError, match="positive and finite"):
        module.set_tau(torch.tensor([0.5, float("nan")]))


def test_half_precision_is_lifted() -> None:
    module = attention().float()
    q, k, v = (x.bfloat16() for x in inputs())
    out, _ = module(q, k, v, LENGTHS)
    wide, _ = module(q.float(), k.float(), v.float(), LENGTHS)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, wide.bfloat16())


@pytest.mark.parametrize("lengths", [(1, 4, 10), (1, 4, 11)])
@pytest.mark.parametrize("causal", [True, False])
def test_mixed_precision_changes_no_number(lengths: tuple[int, ...], causal: bool) -> None:
    """With 15 tokens, the rank, the matrix of logits is made, with 16 the features."""
    module = attention(causal).float()
    q, k, v = (x.float() for x in inputs(lengths))
    k = torch.cat([k[:, :, :8], -q[:, :, 8:]], 2)

    def run(mixed: bool) -> list[torch.Tensor]:
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            out, _ = module(*leaves, lengths)
        return [out, *torch.autograd.grad(out.square().sum(), leaves)]

    expected, under = run(False), run(True)
    assert all(torch.equal(a, b) for a, b in zip(under, expected, strict=True))


def test_errors_come_before_any_work() -> None:
    with pytest.raises(InputError, match=r"degree=3 must be an even number.*degree=4"):
        LowRank(3, 1.0)
    for tau in (0.0, -1.0, 5.5, float("nan")):
        with pytest.raises(InputError, match=r"tau is .* out of range"):
            LowRank(2, tau)
    with pytest.raises(InputError, match=r"rank C\(264, 8\) = .* GiB"):
        LowRankAttention(4, 256, LowRank(8, 4.0), causal=True)
    with pytest.raises(InputError, match="attention_dropout"):
        ScaleAttention(8, 2, causal=True, qkv_bias=True, attention_dropout=0.1, lowrank=LowRank(2, 1.0))
    with pytest.raises(InputError, match="batch of 2 but got 3"):
        attention()(*inputs(), LENGTHS, LowRankState(2))


def test_cross_attention_reads_only_its_scale() -> None:
    torch.manual_seed(0)
    from flowgression.layers.rotary import ScaleRotary

    module = ScaleCrossAttention(8, 2, 6, LowRank(2, 2.0))
    x, context = torch.randn(1, 5, 8), torch.randn(1, 5, 6, requires_grad=True)
    out = module(x, context, ScaleRotary((1, 2), 4)((1, 2)), (1, 4))
    (gradient,) = torch.autograd.grad(out[:, 0].sum(), context)
    assert gradient[:, 0].abs().max() > 0
    assert (gradient[:, 1:] == 0).all()
