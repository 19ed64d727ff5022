"""The kinds of context across images, and the checks that the three backends share.

B: sequences, S: images of a sequence, N: tokens of an image, A: heads, d: head width.
"""

import torch
from torch import Tensor

from flowgression.errors import InputError, did_you_mean

CONTEXTS = ("hybrid", "full", "linear", "none")

State = Tensor | tuple[Tensor, Tensor] | None
"""What image i leaves for image i + 1.

hybrid, linear: the matrix M [B, A, d, d] in float32 (float64 for float64 inputs); its size never changes.
full: keys and values of all earlier images, each [B, A, N * images, d]; grows with every image.
none: None.
"""


def check_inputs(q: Tensor, k: Tensor, v: Tensor, gate: Tensor, state: State, context: str) -> None:
    """Raise InputError if the shapes of one call do not fit each other. See `chunk.py` for what they must be."""
    if context not in CONTEXTS:
        raise InputError(f"context {context!r} is unknown: {did_you_mean(context, CONTEXTS)}")
    if q.ndim != 5 or k.shape != q.shape or v.shape != q.shape:
        raise InputError(
            "q, k and v must have one shape [B, S, N, A, d]; "
            f"got {tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}."
        )
    if q.shape[1] == 0:
        raise InputError("the sequence holds no image (S = 0); give at least one.")
    if gate.shape != q.shape[:-1]:
        raise InputError(f"gate must be [B, S, N, A] = {tuple(q.shape[:-1])}; got {tuple(gate.shape)}.")
    if state is None:
        return
    if context == "none":
        raise InputError("context 'none' keeps no state: each image stands alone. Pass state=None.")
    batch, _, _, heads, width = q.shape
    if context == "full":
        fits = isinstance(state, tuple) and all(
            part.ndim == 4 and (part.shape[0], part.shape[1], part.shape[3]) == (batch, heads, width) for part in state
        )
        expected = f"(keys, values), each [{batch}, {heads}, tokens, {width}]"
    else:
        fits = isinstance(state, Tensor) and state.shape == (batch, heads, width, width)
        expected = f"one tensor [{batch}, {heads}, {width}, {width}]"
    if not fits:
        raise InputError(
            f"the state does not fit context {context!r} and this batch: expected {expected}; got "
            f"{[tuple(part.shape) for part in (state if isinstance(state, tuple) else (state,))]}."
        )


def has_constant_state(context: str) -> bool:
    """Whether the state is one matrix per head, whatever the number of images."""
    return context in ("hybrid", "linear")


def accumulation_dtype(x: Tensor) -> torch.dtype:
    """States and decays are summed over whole sequences, so never in half precision."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32
