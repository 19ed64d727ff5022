"""The three backends of hybrid linear attention against each other, in outputs, states and gradients."""

import pytest
import torch
from torch import Tensor

from flowgression import InputError
from flowgression.ops import hybrid_attention_chunk, hybrid_attention_naive, hybrid_attention_recurrent
from flowgression.ops.hybrid_linear import CONTEXTS

FASTER = {"chunk": hybrid_attention_chunk, "recurrent": hybrid_attention_recurrent}
# (B, S, N, A, d): one of everything, a prime number of tokens, a head width that no kernel likes, a long sequence.
SHAPES = [(1, 1, 1, 1, 1), (2, 3, 7, 2, 5), (1, 5, 16, 3, 8), (2, 2, 63, 1, 24), (1, 33, 3, 2, 4)]


def inputs(shape: tuple[int, ...], dtype: torch.dtype = torch.float64, seed: int = 0) -> list[Tensor]:
    """q, k, v and a gate, with entries as they come out of the normalisations of the model."""
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3))
    gate = torch.nn.functional.logsigmoid(torch.randn(shape[:-1], generator=generator, dtype=torch.float64))
    return [x.to(dtype) for x in (q, k * shape[-1] ** -0.5, v, gate)]


def tensors(state: object) -> list[Tensor]:
    if state is None:
        return []
    return [state] if isinstance(state, Tensor) else list(state)  # type: ignore[call-overload]


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("backend", FASTER)
def test_equals_naive_in_float64(backend: str, shape: tuple[int, ...], context: str) -> None:
    args = inputs(shape)
    expected, expected_state = hybrid_attention_naive(*args, context=context)
    out, state = FASTER[backend](*args, context=context)
    torch.testing.assert_close(out, expected, rtol=1e-11, atol=1e-11)
    for got, want in zip(tensors(state), tensors(expected_state), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("context", ["hybrid", "linear"])
@pytest.mark.parametrize("backend", FASTER)
@pytest.mark.parametrize("value", [-float("inf"), -1e30, -2000.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_gate_that_forgets_all(backend: str, context: str, value: float, dtype: torch.dtype) -> None:
    """At one token in the middle of a sequence: what is before it counts no more, what is after it does."""
    q, k, v, gate = inputs((2, 4, 5, 2, 3), dtype)
    gate[:, 1, 2, 0] = gate[0, 2, 0, 1] = value
    expected, expected_state = hybrid_attention_naive(q, k, v, gate, context=context)
    out, state = FASTER[backend](q, k, v, gate, context=context)
    tolerance = 1e-11 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(out, expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(state, expected_state, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("backend", FASTER)
def test_gradients_equal_naive_in_float64(backend: str, context: str) -> None:
    shape = (2, 4, 5, 2, 3)
    gradients = []
    for function in (hybrid_attention_naive, FASTER[backend]):
        args = [x.requires_grad_() for x in inputs(shape)]
        out, state = function(*args, context=context)
        weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)
        loss = (out * weights).sum() + sum(part.square().sum() for part in tensors(state))
        gradients.append(torch.autograd.grad(loss, args, allow_unused=True))
    for got, want in zip(*gradients, strict=True):
        if want is None or got is None:  # the gate where the context has none
            assert context in ("full", "none")
            continue
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_state_may_be_left_out(shape: tuple[int, ...], context: str) -> None:
    args = inputs(shape)
    for start in (None, hybrid_attention_naive(*inputs(shape, seed=1), context=context)[1]):
        expected, _ = hybrid_attention_naive(*args, start, context=context)
        out, state = hybrid_attention_chunk(*args, start, context=context, return_state=False)
        assert state is None
        torch.testing.assert_close(out, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("context", ["hybrid", "full", "linear"])
@pytest.mark.parametrize("cut", [1, 2, 4])
def test_a_sequence_may_be_cut_anywhere(context: str, cut: int) -> None:
    args = inputs((2, 5, 6, 2, 4))
    whole, final = hybrid_attention_chunk(*args, context=context)
    first, state = hybrid_attention_chunk(*(x[:, :cut] for x in args), context=context)
    second, last = hybrid_attention_chunk(*(x[:, cut:] for x in args), state, context=context)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-12, atol=1e-12)
    for got, want in zip(tensors(last), tensors(final), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("context", CONTEXTS)
def test_later_images_do_not_reach_earlier_ones(context: str) -> None:
    args = inputs((1, 4, 5, 2, 4))
    before, _ = hybrid_attention_chunk(*args, context=context)
    poisoned = [x.clone() for x in args]
    for x in poisoned[:3]:
        x[:, 3] = 1e6
    after, _ = hybrid_attention_chunk(*poisoned, context=context)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.equal(before[:, 3], after[:, 3])


@pytest.mark.parametrize("context", ["hybrid", "linear"])
def test_state_size_does_not_depend_on_the_images_seen(context: str) -> None:
    shapes = set()
    state = None
    for i in range(4):
        _, state = hybrid_attention_recurrent(*inputs((1, 1, 9, 2, 4), seed=i), state, context=context)
        shapes.add(tuple(state.shape))
    assert shapes == {(1, 2, 4, 4)}


def test_hybrid_reads_the_decayed_sum_of_earlier_images() -> None:
    # One head of width 1, one token per image and equal keys: everything is a number that can be written down.
    q = torch.full((1, 3, 1, 1, 1), 2.0, dtype=torch.float64)
    k = torch.ones_like(q)
    v = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64).reshape(1, 3, 1, 1, 1)
    gate = torch.full((1, 3, 1, 1), -0.5, dtype=torch.float64)
    out, state = hybrid_attention_chunk(q, k, v, gate)
    e = torch.tensor(-0.5, dtype=torch.float64).exp()
    expected = torch.stack([v[0, 0, 0, 0, 0], 10 + 2 * e * 1, 100 + 2 * e * (e * 1 + 10)])
    torch.testing.assert_close(out.flatten(), expected)
    torch.testing.assert_close(state.flatten(), (e * (e * 1 + 10) + 100)[None])


def test_half_precision_keeps_its_state_in_float32_and_stays_close() -> None:
    args = inputs((2, 6, 16, 2, 8))
    expected, expected_state = hybrid_attention_chunk(*args)
    out, state = hybrid_attention_chunk(*(x.bfloat16() for x in args))
    assert out.dtype == torch.bfloat16
    assert state.dtype == torch.float32
    assert (out.double() - expected).norm() < 0.02 * expected.norm()
    assert (state.double() - expected_state).norm() < 0.02 * expected_state.norm()


def test_autocast_does_not_touch_the_state() -> None:
    args = inputs((1, 3, 8, 2, 4), torch.float32)
    expected, expected_state = hybrid_attention_chunk(*args)
    with torch.autocast("cpu", torch.bfloat16):
        out, state = hybrid_attention_chunk(*args)
    assert torch.equal(out, expected)
    assert torch.equal(state, expected_state)


@pytest.mark.parametrize("context", ["hybrid", "linear"])
def test_strong_decay_neither_overflows_nor_gives_nan(context: str) -> None:
    q, k, v, _ = inputs((1, 4, 64, 1, 4), torch.float32)
    gate = torch.full((1, 4, 64, 1), -50.0)
    args = [x.requires_grad_() for x in (q, k, v, gate)]
    out, state = hybrid_attention_chunk(*args, context=context)
    (out.sum() + state.sum()).backward()
    assert out.isfinite().all()
    assert all(x.grad.isfinite().all() for x in args)


@pytest.mark.slow
@pytest.mark.parametrize("context", CONTEXTS)
def test_compiles_without_a_graph_break(context: str) -> None:
    args = inputs((2, 3, 8, 2, 4), torch.float32)
    compiled = torch.compile(hybrid_attention_chunk, fullgraph=True, dynamic=False)
    out, _ = compiled(*args, context=context)
    expected, _ = hybrid_attention_chunk(*args, context=context)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("context", CONTEXTS)
def test_on_cuda(context: str) -> None:
    args = inputs((2, 3, 64, 2, 32), torch.float32)
    expected, _ = hybrid_attention_chunk(*args, context=context)
    out, _ = hybrid_attention_chunk(*(x.cuda() for x in args), context=context)
    torch.testing.assert_close(out.cpu(), expected, rtol=1e-4, atol=1e-4)


class TestWrongInput:
    def test_unknown_context_names_the_nearest(self) -> None:
        with pytest.raises(InputError, match=r"'hybird' is unknown: did you mean 'hybrid'"):
            hybrid_attention_chunk(*inputs((1, 1, 2, 1, 2)), context="hybird")

    def test_no_image(self) -> None:
        with pytest.raises(InputError, match="S = 0"):
            hybrid_attention_chunk(*inputs((1, 0, 2, 1, 2)))

    def test_gate_of_another_shape(self) -> None:
        q, k, v, gate = inputs((1, 2, 3, 2, 4))
        with pytest.raises(InputError, match="gate must be"):
            hybrid_attention_chunk(q, k, v, gate[..., :1])

    def test_state_of_another_batch(self) -> None:
        _, state = hybrid_attention_chunk(*inputs((2, 1, 3, 2, 4)))
        with pytest.raises(InputError, match="state does not fit"):
            hybrid_attention_chunk(*inputs((1, 1, 3, 2, 4)), state)

    def test_state_of_another_kind(self) -> None:
        _, state = hybrid_attention_chunk(*inputs((1, 1, 3, 2, 4)), context="full")
        with pytest.raises(InputError, match="state does not fit"):
            hybrid_attention_chunk(*inputs((1, 1, 3, 2, 4)), state, context="hybrid")

    def test_none_takes_no_state(self) -> None:
        with pytest.raises(InputError, match="keeps no state"):
            hybrid_attention_chunk(*inputs((1, 1, 3, 2, 4)), torch.zeros(1, 2, 4, 4), context="none")
