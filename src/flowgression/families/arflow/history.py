"""What a denoising step of ARFlow reads of the steps before it: all of them, the last K, every K-th, or none.

Training shows a model a handful of images in a sequence, sampling up to hundreds; these are the ways to show it fewer.

Letters: B images, R rows of conditions (B, or 2B under guidance), C H W channels and size of a latent, F conditions.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowgression.sampling.common import Call
from flowgression.sampling.options import History


class Counted(NamedTuple):
    """What "every:K" hands from step to step: how many steps there were, and the state of those that were folded."""

    steps: int
    state: Any


class Window(NamedTuple):
    """What "last:K" hands from step to step: the state at the start, and the last K steps as (x, prepared)."""

    start: Any
    seen: tuple[tuple[Tensor, Tensor], ...] = ()


def calls_with(model: Any, history: History) -> Call:
    """The calls of `model` that read a history: call(x [B,C,H,W], prepared [R,F], state) -> (velocity, state).

    The state at the start is `wrapped(history, state of the model)`. Every call is one of the network on one image a
    sample; of "last:K" on up to K + 1, since the blocks above the first have read the context themselves: their part
    of a state cannot be taken back, so the last K steps are folded again, at K + 1 times the cost.
    """

    def read(x: Tensor, prepared: Tensor, state: Any, fold: bool) -> tuple[Tensor, Any]:
        output = model(x[:, None], state=state, return_state=fold, prepared=prepared)
        return output.velocity[:, 0], output.state if fold else state

    def every(x: Tensor, prepared: Tensor, past: Any) -> tuple[Tensor, Counted]:
        velocity, state = read(x, prepared, past.state, past.steps % history.count == 0)
        return velocity, Counted(past.steps + 1, state)

    def last(x: Tensor, prepared: Tensor, past: Any) -> tuple[Tensor, Window]:
        seen = (*past.seen, (x, prepared))
        images, conditions = (torch.stack(parts, dim=1) for parts in zip(*seen, strict=True))
        output = model(images, state=past.start, return_state=False, prepared=conditions)
        return output.velocity[:, -1], Window(past.start, seen[-history.count :])

    calls: dict[str, Call] = {
        "all": lambda x, prepared, state: read(x, prepared, state, True),
        "none": lambda x, prepared, state: read(x, prepared, state, False),
        "every": every,
        "last": last,
    }
    return calls[history.kind]


def wrapped(history: History, state: Any) -> Any:
    """What the first call of `calls_with` reads, for the state that a walk begins with."""
    return {"every": Counted(0, state), "last": Window(state)}.get(history.kind, state)


def unwrapped(state: Any) -> Any:
    """The model's state in what the last call left; of "last:K", which folds anew at each step, that of the start."""
    if isinstance(state, Counted):
        return state.state
    return state.start if isinstance(state, Window) else state
