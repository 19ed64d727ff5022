"""The references: softmax attention against its definition, and its block-causal and cached forms."""

import pytest
import torch

from flowgression import InputError
from flowgression.ops import minimax_exp, softmax_attention
from flowgression.ops.lowrank import naive_polynomial_attention
from flowgression.ops.lowrank.minimax import horner

SCALES = (1, 4, 9)


def inputs():
    torch.manual_seed(0)
    return [torch.randn(2, 3, 14, w, dtype=torch.float64) for w in (4, 4, 5)]


def mask():
    block = torch.tensor([0] + [1] * 4 + [2] * 9)
    return block <= block[:, None]


@pytest.mark.parametrize("scale", [None, 0.7])
def test_softmax_by_its_definition(scale):
    q, k, v = inputs()
    logits = (scale or 0.5) * q @ k.mT
    output, cache = softmax_attention(q, k, v, scale=scale)
    torch.testing.assert_close(output, logits.softmax(-1) @ v)
    assert torch.equal(cache.keys, k)
    assert torch.equal(cache.values, v)
    masked = logits.masked_fill(~mask(), -torch.inf)
    causal = softmax_attention(q, k, v, scale=scale, block_lengths=SCALES).output
    torch.testing.assert_close(causal, masked.softmax(-1) @ v)


@pytest.mark.parametrize("lengths", [None, SCALES])
def test_naive_polynomial_by_its_definition(lengths):
    q, k, v = inputs()
    weights = horner(minimax_exp(4, 2.0).coefficients, 0.5 * q @ k.mT)
    weights = weights * (mask() if lengths else 1)
    expected = weights @ v / weights.sum(-1, keepdim=True)
    output = naive_polynomial_attention(q, k, v, degree=4, bound=2.0, block_lengths=lengths).output
    torch.testing.assert_close(output, expected)


@pytest.mark.parametrize(
    ("attention", "options"),
    [(softmax_attention, {}), (naive_polynomial_attention, {"degree": 4, "bound": 2.0})],
)
def test_cached_form_equals_block_causal_form(attention, options):
    whole = attention(*inputs(), block_lengths=SCALES, **options)
    state, outputs = None, []
    for first, second in ((0, 5), (5, 14)):  # two scales, then one, the cache carried over
        part = [x[..., first:second, :] for x in inputs()]
        lengths = SCALES[:2] if first == 0 else SCALES[2:]
        output, state = attention(*part, block_lengths=lengths, state=state, **options)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs, -2), whole.output)
    assert torch.equal(state.keys, whole.state.keys)


def test_shapes_that_do_not_fit():
    q, k, v = inputs()
    with pytest.raises(InputError, match="attention needs"):
        softmax_attention(q, k[..., :2], v)
    with pytest.raises(InputError, match="floating-point"):
        softmax_attention(q, k, v.long())
    with pytest.raises(InputError, match="block_lengths="):
        naive_polynomial_attention(q, k, v, degree=2, bound=1.0, block_lengths=(1, 2))
