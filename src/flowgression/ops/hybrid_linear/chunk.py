"""Hybrid linear attention over all images of a sequence at once, in matrix products: the backend for training.

B: sequences, S: images of a sequence, N: tokens of an image (= one chunk), A: heads, d: head width.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from flowgression.ops.hybrid_linear.kinds import State, accumulation_dtype, check_inputs


def hybrid_attention_chunk(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gate: Tensor,
    state: State = None,
    *,
    context: str = "hybrid",
    return_state: bool = True,
) -> tuple[Tensor, State]:
    """Attention inside each image and to the images before it (ARFlow, arXiv 2501.16085, section 3).

    With a = gate and M the state that an image finds (`hybrid`):

        out = softmax(q k^T) v + (q * exp(cumsum_N a)) M,    M <- exp(mean_N a) M + k^T v

    so an image sees all its own tokens, and of the earlier images their decayed sum. `linear` is gated linear
    attention, causal over all tokens: M <- exp(a) M + k^T v per token, out = q M. `full` is softmax attention to
    the own image and all earlier ones. `none` is softmax attention inside the image.

    Args:
        q, k, v: [B, S, N, A, d], floating point, S >= 1. The logits are q k^T: scale k beforehand. q and k are rounded
            to the dtype of v, in which logits and products are taken.
        gate: [B, S, N, A], log-decay per token and head, <= 0; -inf forgets all. `full` and `none` do not use it.
        state: what an earlier call returned, or None at the start of a sequence. See `kinds.State`.
        context: "hybrid", "full", "linear" or "none".
        return_state: False leaves out what the last image would leave, which training has no use for.

    Returns:
        The output [B, S, N, A, d] in the dtype of v, and the state behind the last image (None without return_state).

    Raises:
        InputError: shapes that do not fit, an unknown context, or a state of another batch or kind.
    """
    check_inputs(q, k, v, gate, state, context)
    q, k, v = (x.permute(0, 3, 1, 2, 4).to(v.dtype) for x in (q, k, v))  # [B, A, S, N, d]
    # Decays and states stay in float32 under autocast, which would cast their products down again.
    with torch.autocast(q.device.type, enabled=False):
        a = gate.permute(0, 3, 1, 2).to(accumulation_dtype(v))  # [B, A, S, N]
        out, state = _FORMS[context](q, k, v, a, state, return_state)
    return out.permute(0, 2, 3, 1, 4), state


def _hybrid(q: Tensor, k: Tensor, v: Tensor, a: Tensor, state: State, keep: bool) -> tuple[Tensor, State]:
    if q.shape[2] == 1:
        return _hybrid_one(q, k, v, a, state, keep)
    writing = slice(q.shape[2] if keep else q.shape[2] - 1)  # the images whose tokens a later image reads
    states = _states_before_and_after(k[:, :, writing].mT @ v[:, :, writing], a[:, :, writing].mean(-1), state)
    reach = (q * a.cumsum(-1).exp()[..., None]).to(v.dtype)
    cross = reach @ states[:, :, : q.shape[2]].to(v.dtype)
    return _inside_images(q, k, v) + cross, states[:, :, -1] if keep else None


def _hybrid_one(q: Tensor, k: Tensor, v: Tensor, a: Tensor, state: State, keep: bool) -> tuple[Tensor, State]:
    """`_hybrid` of one image, as in sampling: the recurrence is one step, which needs no table of decays."""
    q, k, v, a = (x.squeeze(2) for x in (q, k, v, a))
    found = state if isinstance(state, Tensor) else a.new_zeros(*k.shape[:2], k.shape[3], v.shape[3])
    reach = (q * a.cumsum(-1).exp()[..., None]).to(v.dtype)
    out = scaled_dot_product_attention(q, k, v, scale=1.0) + reach @ found.to(v.dtype)
    if not keep:
        return out[:, :, None], None
    return out[:, :, None], torch.addcmul((k.mT @ v).to(a.dtype), a.mean(-1).exp()[..., None, None], found.to(a.dtype))


def _linear(q: Tensor, k: Tensor, v: Tensor, a: Tensor, state: State, keep: bool) -> tuple[Tensor, State]:
    writing = slice(q.shape[2] if keep else q.shape[2] - 1)
    reach = _bounded(a).cumsum(-1)
    total = reach[..., -1:]
    left = k[:, :, writing] * (total - reach)[:, :, writing].exp()[..., None]  # of each key, at the image's end
    states = _states_before_and_after(left.to(v.dtype).mT @ v[:, :, writing], total[:, :, writing, 0], state)
    inner = ((q @ k.transpose(-1, -2)) * _decay_between(reach)).to(v.dtype) @ v
    cross = (q * reach.exp()[..., None]).to(v.dtype) @ states[:, :, : q.shape[2]].to(v.dtype)
    return inner + cross, states[:, :, -1] if keep else None


def _full(q: Tensor, k: Tensor, v: Tensor, a: Tensor, state: State, keep: bool) -> tuple[Tensor, State]:
    images, tokens = q.shape[2:4]
    keys, values = k.flatten(2, 3), v.flatten(2, 3)
    if isinstance(state, tuple):
        keys, values = torch.cat([state[0], keys], dim=2), torch.cat([state[1], values], dim=2)
    seen = keys.shape[2] - images * tokens
    # One call per image over the keys it may see: no mask, and none of the masked products.
    outputs = []
    for i in range(images):
        end = seen + (i + 1) * tokens
        outputs.append(scaled_dot_product_attention(q[:, :, i], keys[:, :, :end], values[:, :, :end], scale=1.0))
    return torch.stack(outputs, dim=2), (keys, values) if keep else None


def _none(q: Tensor, k: Tensor, v: Tensor, a: Tensor, state: State, keep: bool) -> tuple[Tensor, State]:
    return _inside_images(q, k, v), None


def _inside_images(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention of every image alone, [B, A, S, N, d]; four dimensions, so that the fast kernels apply."""
    batch = q.shape[0]
    q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, scale=1.0).unflatten(0, (batch, -1)).transpose(1, 2)


def _states_before_and_after(products: Tensor, log_decay: Tensor, state: State) -> Tensor:
    """The recurrence M <- exp(log_decay_i) M + products_i, unrolled as one matrix product over images.

    Args:
        products: [B, A, S, d, d], S >= 0. log_decay: [B, A, S]. state: M at the start, or None for zero.

    Returns:
        [B, A, S + 1, d, d] in float32 (or float64): what each image finds, and what the last one leaves.
    """
    products = products.to(log_decay.dtype)
    start = state if isinstance(state, Tensor) else products.new_zeros(*products.shape[:2], *products.shape[3:])
    terms = torch.cat([start.to(log_decay.dtype)[:, :, None], products], dim=2)
    weights = _decay_between(pad(_bounded(log_decay).cumsum(-1), (1, 0)))
    return (weights @ terms.flatten(-2)).unflatten(-1, products.shape[-2:])


def _bounded(log_decay: Tensor) -> Tensor:
    """Log-decays whose sums have finite differences, also for -inf: exp of the bound, and below it, is 0 already."""
    return log_decay.clamp(min=-1024.0 if log_decay.dtype == torch.float64 else -128.0)


def _decay_between(reach: Tensor) -> Tensor:
    """exp(reach_i - reach_j) for j <= i, else 0. [..., n] -> [..., n, n]."""
    size = reach.shape[-1]
    causal = torch.ones(size, size, dtype=torch.bool, device=reach.device).tril()
    # Masked before exp: above the diagonal the difference is positive and may overflow, and inf * 0 is nan.
    return (reach[..., :, None] - reach[..., None, :]).masked_fill(~causal, float("-inf")).exp()


_FORMS = {"hybrid": _hybrid, "linear": _linear, "full": _full, "none": _none}
