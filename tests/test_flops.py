"""Counted FLOPs against closed forms: single operators, attention in all its forms, whole models of every family.

B: images (or sequences), S: images of a sequence, N: tokens of an image, D: width, A: heads, d = D / A, r: rank.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

from flowgression import ARFlow, FlowAR, SiT
from flowgression.flops import FORMULAS, count_flops, flop_counter
from flowgression.layers.lowrank_attention import DENSE_PER_RANK
from flowgression.memory import LiveTensors
from flowgression.models import build_model, find_family
from flowgression.ops import (
    hybrid_attention_chunk,
    hybrid_attention_recurrent,
    lowrank_attention,
    rank,
    softmax_attention,
)
from flowgression.training.randomness import StepRandomness

KERNELS = (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH)


@contextmanager
def fake() -> Iterator[None]:
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def everywhere(make: Callable[[], Callable[[], Any]], *, meta: bool = True) -> int:
    """The FLOPs of what `make` gives, the same for both kernels, for real, fake and (unless told) meta tensors, and
    with gradients and without."""
    real, figures = make(), {}
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            for kernel in KERNELS:
                with sdpa_kernel(kernel):
                    figures[kernel, enabled] = count_flops(real)
            with fake():
                figures["fake", enabled] = count_flops(make())
            if meta:
                with torch.device("meta"):
                    figures["meta", enabled] = count_flops(make())
    assert len(set(figures.values())) == 1, figures
    return figures["fake", True]


def test_products() -> None:
    a, b = torch.randn(5, 7), torch.randn(7, 11)
    stack, other = torch.randn(3, 5, 7), torch.randn(3, 7, 11)
    vector, start, starts = torch.randn(7), torch.randn(5, 11), torch.zeros(3, 5, 11)
    one, batch = 2 * 5 * 7 * 11, 3 * 2 * 5 * 7 * 11
    cases: list[tuple[int, Callable[[], Any]]] = [
        (one, lambda: a @ b),
        (one, lambda: torch.addmm(start, a, b)),
        (one, lambda: start.addmm_(a, b)),
        (one, lambda: torch._addmm_activation(start[0], a, b)),
        (batch, lambda: stack @ other),
        (batch, lambda: torch.baddbmm(starts, stack, other)),
        (batch, lambda: starts.baddbmm_(stack, other)),
        (batch, lambda: torch.addbmm(start, stack, other)),
        (batch, lambda: start.addbmm_(stack, other)),
        (batch, lambda: torch.einsum("bij,bjk->bik", stack, other)),
        (2 * 5 * 7, lambda: a @ vector),
        (2 * 5 * 7, lambda: torch.addmv(start[:, 0], a, vector)),
        (2 * 5 * 7, lambda: torch.zeros(5).addmv_(a, vector)),
        (2 * 7, lambda: vector @ vector),
        (2 * 7, lambda: torch.vdot(vector, vector)),
        (3 * one, lambda: nn.functional.linear(stack, b.mT.contiguous())),
        (0, lambda: (a * a + a).exp().softmax(-1)),
    ]
    for expected, compute in cases:
        assert count_flops(compute) == expected
        with torch.inference_mode():
            assert count_flops(compute) == expected


def test_convolutions() -> None:
    layer = nn.Conv2d(3, 8, kernel_size=2, stride=2)
    x = torch.randn(4, 3, 10, 6)
    forward = 2 * 4 * (5 * 3) * 8 * (3 * 2 * 2)
    assert count_flops(lambda: layer(x)) == forward
    assert count_flops(lambda: layer(x).sum().backward()) == 2 * forward  # the image needs no gradient
    x.requires_grad_()
    assert count_flops(lambda: layer(x).sum().backward()) == 3 * forward


@pytest.mark.parametrize("queries", [17, 1])
def test_attention_forward_and_backward(queries: int) -> None:
    heads, keys, width = 6, 50, 8

    def make(backward: bool) -> Callable[[], Callable[[], Any]]:
        def inner() -> Callable[[], Any]:
            q = torch.randn(2, 3, queries, width, requires_grad=backward)
            k, v = (torch.randn(2, 3, keys, width, requires_grad=backward) for _ in range(2))

            def compute() -> None:
                out = scaled_dot_product_attention(q, k, v)
                if out.requires_grad:
                    out.sum().backward()

            return compute

        return inner

    forward = heads * 4 * queries * keys * width
    assert everywhere(make(False)) == forward
    for kernel in KERNELS:
        with sdpa_kernel(kernel):
            assert count_flops(make(True)()) == 3 * forward
    with fake():
        assert count_flops(make(True)()) == 3 * forward


def test_softmax_of_blocks() -> None:
    q = torch.randn(2, 3, 50, 8)
    assert count_flops(lambda: softmax_attention(q, q, q)) == 6 * 4 * 50 * 50 * 8
    blocks = (5, 15, 30)
    seen = 5 * 5 + 15 * 20 + 30 * 50
    assert count_flops(lambda: softmax_attention(q, q, q, block_lengths=blocks)) == 6 * 4 * seen * 8


@pytest.mark.parametrize("degree", [2, 4])
def test_low_rank(degree: int) -> None:
    """Keys and values are folded into [r, d + 1], and every query reads it: 2 (M + N) r (d + 1)."""
    q, k = torch.randn(2, 3, 37, 8), torch.randn(2, 3, 500, 8)
    expected = 6 * 2 * (37 + 500) * rank(8, degree) * 9
    assert count_flops(lambda: lowrank_attention(q, k, k, degree=degree, bound=1.0)) == expected
    causal = 6 * 2 * 2 * 500 * rank(8, degree) * 9
    assert count_flops(lambda: lowrank_attention(k, k, k, degree=degree, bound=1.0, block_lengths=(100, 400))) == causal


def context_flops(context: str, images: int, tokens: int, width: int, heads: int) -> int:
    """Of one sequence: attention inside the images, and what is written to and read from the states."""
    d = width // heads
    if context == "full":
        return 4 * tokens**2 * width * images * (images + 1) // 2
    inside = 4 * images * tokens**2 * width
    if context == "none":
        return inside
    # The recurrence over images, as one product; of one image a hybrid step is none.
    states = 0 if context == "hybrid" and images == 1 else 2 * (images + 1) ** 2 * d * width
    return inside + 2 * 2 * images * tokens * d * width + states


@pytest.mark.parametrize("context", ["hybrid", "linear", "full", "none"])
def test_attention_across_images(context: str) -> None:
    batch, images, tokens, heads, d = 2, 3, 5, 2, 4
    shape = (batch, images, tokens, heads, d)

    def make() -> Callable[[], Any]:
        q, k, v = torch.randn(shape), torch.randn(shape), torch.randn(shape)
        gate = -torch.rand(shape[:-1])
        return lambda: hybrid_attention_chunk(q, k, v, gate, context=context)

    # autocast, which the operation turns off for its states, has no meta device
    assert everywhere(make, meta=False) == batch * context_flops(context, images, tokens, heads * d, heads)
    q, gate = torch.randn(shape), -torch.rand(shape[:-1])
    one_by_one = batch * context_flops(context, images, tokens, heads * d, heads)
    if context in ("hybrid", "linear"):  # a recurrence of one image at a time
        steps = images * context_flops(context, 1, tokens, heads * d, heads)
        one_by_one = batch * steps
    assert count_flops(lambda: hybrid_attention_recurrent(q, q, q, gate, context=context)) == one_by_one


D, DEPTH, HEADS, PATCH, CHANNELS, BATCH = 24, 2, 3, 2, 4, 3
TOKENS = 16
DIT: dict[str, Any] = {
    "sample_size": 8, "patch_size": PATCH, "in_channels": CHANNELS, "hidden_size": D, "depth": DEPTH,
    "num_heads": HEADS, "num_classes": 10,
}  # fmt: skip


def transformer_flops(per_token: int) -> int:
    """One image through patches, conditions, blocks and the final layer, without the products of attention.

    per_token: multiply-adds of a block's attention projections for one token.
    """
    blocks = DEPTH * (TOKENS * (per_token + 8 * D * D) + 6 * D * D)
    ends = TOKENS * PATCH**2 * D * (CHANNELS + 2 * CHANNELS) + 2 * D * D  # in; out, sigma is learnt
    return 2 * (blocks + ends + 256 * D + D * D)


def test_sit() -> None:
    def make() -> Callable[[], Any]:
        model, x = SiT(**DIT), torch.randn(BATCH, CHANNELS, 8, 8)
        t, labels = torch.rand(BATCH), torch.zeros(BATCH, dtype=torch.int64)
        return lambda: model(x, t, labels)

    assert everywhere(make) == BATCH * (transformer_flops(4 * D * D) + DEPTH * 4 * TOKENS**2 * D)


@pytest.mark.parametrize("context", ["hybrid", "linear", "full", "none"])
def test_arflow(context: str) -> None:
    images = 2

    def make() -> Callable[[], Any]:
        model, x = ARFlow(**DIT, context=context), torch.randn(BATCH, images, CHANNELS, 8, 8)
        t, labels = torch.rand(BATCH, images), torch.zeros(BATCH, dtype=torch.int64)
        return lambda: model(x, t, labels)

    across = DEPTH * context_flops(context, images, TOKENS, D, HEADS)
    gates = images * DEPTH * 2 * D * HEADS  # of the condition, beside those of the tokens
    assert everywhere(make, meta=False) == BATCH * (images * transformer_flops(5 * D * D + D * HEADS) + gates + across)


SCALES, WIDTH = (1, 2, 4, 8), 16
FLOWAR: dict[str, Any] = {
    "sample_size": 8, "in_channels": CHANNELS, "scales": SCALES, "hidden_size": D, "encoder_depth": 2,
    "decoder_depth": 1, "num_heads": HEADS, "flow_width": WIDTH, "flow_depth": 2, "flow_num_heads": 4,
    "num_classes": 10,
}  # fmt: skip
SQUARES = [side**2 for side in SCALES]


def gated_mlp(width: int) -> int:
    return 3 * width * int(8 * width / 3)


def dense_or_folded(queries: int, keys: int, width: int, heads: int, lowrank: bool) -> int:
    """FLOPs of attention; low rank makes the logits where that is faster, and sums them by a product."""
    d = width // heads
    if lowrank and keys > DENSE_PER_RANK * rank(d, 2):
        return 2 * heads * (queries + keys) * rank(d, 2) * (d + 1)
    return 4 * queries * keys * width + (2 * heads * queries * keys if lowrank else 0)


@pytest.mark.parametrize("attention", ["exact", "lowrank"])
def test_flowar(attention: str) -> None:
    lowrank = attention == "lowrank"

    def make() -> Callable[[], Any]:
        model = FlowAR(**FLOWAR, attention=attention).eval()
        labels = torch.zeros(BATCH, dtype=torch.int64)
        x = torch.randn(BATCH, sum(SQUARES), CHANNELS)

        def compute() -> None:
            cache = model.new_cache(BATCH)
            start = 0
            for k, side in enumerate(SCALES):
                map_before = torch.zeros(BATCH, CHANNELS, SCALES[k - 1], SCALES[k - 1]) if k else None
                semantics, cache = model.next_semantics(map_before, labels, cache)
                model.flow_head(x[:, start : start + side**2], torch.ones(BATCH), semantics)
                start += side**2

        return compute

    total, d = 0, D // HEADS
    for k, tokens in enumerate(SQUARES):
        seen = sum(SQUARES[: k + 1])
        dense = 3 * (tokens * (4 * D * D + gated_mlp(D)) + 6 * D * D)  # blocks; their modulations
        dense += tokens * D * D + (tokens * CHANNELS * D if k else 0)  # between encoder and decoder; input
        head = 2 * tokens * (4 * WIDTH**2 + gated_mlp(WIDTH) + 6 * WIDTH**2)  # modulated at every token
        head += tokens * (D * WIDTH + 2 * CHANNELS * WIDTH + 2 * WIDTH**2) + 256 * WIDTH + WIDTH**2
        total += 2 * (dense + head)
        # The transformer of low rank writes its tokens into the state and reads it, however many came before.
        among = 4 * tokens * rank(d, 2) * HEADS * (d + 1) if lowrank else 4 * tokens * seen * D
        total += 3 * among + 2 * dense_or_folded(tokens, tokens, WIDTH, 4, lowrank)
    assert everywhere(make, meta=not lowrank) == BATCH * total


def test_counting_keeps_no_tensor_alive() -> None:
    """The memory of a checkpointed pass is the same while FLOPs are counted."""
    peaks = []
    for context in (flop_counter(), nullcontext()):
        model, memory = SiT(**DIT | {"depth": 6}).train(), LiveTensors()
        model.enable_gradient_checkpointing()
        with context, memory:
            out = model(torch.randn(8, CHANNELS, 8, 8), torch.rand(8), torch.zeros(8, dtype=torch.int64))
            out.velocity.sum().backward()
        peaks.append(memory.peak)
    assert peaks[0] == peaks[1]


class Operators(TorchDispatchMode):
    """Remembers every operator that is called."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[Any] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.add(func._overloadpacket)
        return func(*args, **(kwargs or {}))


SIGNS = ("mm", "mv", "dot", "conv", "attention", "linear", "einsum", "bilinear", "lstm", "gru", "rnn", "cdist", "outer")


@pytest.mark.parametrize(
    ("family", "args", "shape"),
    [
        ("sit", DIT, (2, CHANNELS, 8, 8)),
        ("arflow", DIT, (2, 2, CHANNELS, 8, 8)),
        ("flowar", FLOWAR, (2, CHANNELS, 8, 8)),
        ("flowar", FLOWAR | {"attention": "lowrank"}, (2, CHANNELS, 8, 8)),
    ],
)
def test_no_product_of_a_training_step_goes_uncounted(family: str, args: dict[str, Any], shape: tuple) -> None:
    """Every operator of the forward and backward pass has a formula, or does nothing that counts."""
    model = build_model(family, None, **args)
    random, labels = StepRandomness(0, 0), torch.zeros(2, dtype=torch.int64)
    with Operators() as operators:
        find_family(family).objective_function(model, torch.randn(shape), labels, random).loss.backward()
    known = flop_counter().flop_registry
    missed = [str(op) for op in operators.seen - set(known) if any(sign in str(op) for sign in SIGNS)]
    foreign = [str(op) for op in operators.seen - set(known) if not str(op).startswith(("aten.", "prim"))]
    assert not missed
    assert not foreign
    assert set(FORMULAS) <= set(known)
