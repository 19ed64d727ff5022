"""Noising: from clean images to what a flow model is trained on (ARFlow, arXiv 2501.16085, section 3.1).

Letters: B batch, S images of a sequence, C channels, H x W size.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from flowgression.errors import InputError, did_you_mean
from flowgression.flow.paths import LinearPath, ProbabilityPath

NOISE_ORDERS = ("falling", "rising", "random", "equal")
"""Noise along a sequence: falling (rising t, as in ARFlow and in sampling), rising, in any order, or equal for all."""


class NoisedSequence(NamedTuple):
    """x_t and target [B, S, C, H, W] in the dtype of x1; t [B, S], ascending along S where noise falls."""

    x_t: Tensor
    t: Tensor
    target: Tensor


class NoisedImages(NamedTuple):
    """x_t and target [B, C, H, W] in the dtype of x1; t [B]."""

    x_t: Tensor
    t: Tensor
    target: Tensor


_LINEAR = LinearPath()


def noise_sequence(
    x1: Tensor,
    *,
    generator: torch.Generator | None = None,
    t: Tensor | None = None,
    x0: Tensor | None = None,
    path: ProbabilityPath = _LINEAR,
    order: str = "falling",
) -> NoisedSequence:
    """Noise the S images of every sequence at S sorted times, so that each image comes after its noisier predecessors.

    x1: [B, S, C, H, W] clean images, floating. t: [B, S] in [0, 1], in the order; drawn uniformly and ordered if None.
    x0: noise like x1; drawn from N(0, I) if None. generator: source of both; it may live on another device than x1.
    order: one of `NOISE_ORDERS`. Raises InputError for wrong shapes or dtypes, S = 0, an unknown order, or times that
    are not in it.
    """
    _check_images(x1, ("B", "S", "C", "H", "W"))
    if t is None:
        t = order_times(_draw_times(x1, 2, generator, path), order)
    elif t.shape != x1.shape[:2] or not _is_in_order(t, order):
        raise InputError(
            f"t must have shape {list(x1.shape[:2])} and be in order of {order} noise along the sequence "
            f"(falling noise: t ascends), not {t.tolist()}."
        )
    return _noise(x1, x0, t, generator, path)


def order_times(t: Tensor, order: str) -> Tensor:
    """Independent times t [B, S] in an order of `NOISE_ORDERS`, [B, S]: "equal" gives each sequence its first time.

    Raises InputError for an unknown order.
    """
    _check_order(order)
    if order == "equal":
        return t[:, :1].expand(t.shape)
    return t if order == "random" else t.sort(dim=1, descending=order == "rising").values


def noise_images(
    x1: Tensor,
    *,
    generator: torch.Generator | None = None,
    t: Tensor | None = None,
    x0: Tensor | None = None,
    path: ProbabilityPath = _LINEAR,
) -> NoisedImages:
    """The twin of `noise_sequence` for single images x1 [B, C, H, W], with t [B] uniform in [0, 1]."""
    _check_images(x1, ("B", "C", "H", "W"))
    if t is None:
        t = _draw_times(x1, 1, generator, path)
    elif t.shape != x1.shape[:1]:
        raise InputError(f"t must have shape {list(x1.shape[:1])}, not {list(t.shape)}.")
    return NoisedImages(*_noise(x1, x0, t, generator, path))


def noise_at(x1: Tensor, x0: Tensor, t: Tensor, *, path: ProbabilityPath = _LINEAR) -> NoisedSequence:
    """x_t and target at times that are known to be right: the step of training, which waits for no device.

    x1, x0: [..., C, H, W] data and noise; t: [...]. Values are not looked at, as `noise_sequence` does with given t.
    Raises InputError for shapes that do not fit each other.
    """
    return NoisedSequence(path.interpolate(x1, x0, t).to(x1.dtype), t, path.target_velocity(x1, x0, t).to(x1.dtype))


def _is_in_order(t: Tensor, order: str) -> bool:
    _check_order(order)
    steps = t.diff(dim=1)
    wrong = {"falling": steps < 0, "rising": steps > 0, "random": steps.isnan(), "equal": steps != 0}
    return not bool(wrong[order].any())


def _check_order(order: str) -> None:
    if order not in NOISE_ORDERS:
        raise InputError(f"order {order!r} is unknown; {did_you_mean(order, NOISE_ORDERS)}")


def _draw_times(x1: Tensor, leading: int, generator: torch.Generator | None, path: ProbabilityPath) -> Tensor:
    # Half precision cannot tell times near 1 apart, so times are float32 at least.
    dtype = torch.float64 if x1.dtype == torch.float64 else torch.float32
    device = x1.device if generator is None else generator.device
    t = torch.rand(x1.shape[:leading], generator=generator, device=device, dtype=dtype)
    return t.to(x1.device) * path.last_time


def _noise(
    x1: Tensor, x0: Tensor | None, t: Tensor, generator: torch.Generator | None, path: ProbabilityPath
) -> NoisedSequence:
    if x0 is None:
        device = x1.device if generator is None else generator.device
        x0 = torch.randn(x1.shape, generator=generator, device=device, dtype=x1.dtype).to(x1.device)
    return noise_at(x1, x0, t, path=path)


def _check_images(x1: Tensor, letters: tuple[str, ...]) -> None:
    expected = f"[{', '.join(letters)}]"
    if x1.ndim != len(letters) or 0 in x1.shape:
        raise InputError(f"x1 must be a non-empty tensor {expected}, not of shape {list(x1.shape)}.")
    if not x1.is_floating_point():
        raise InputError(f"x1 must be floating (pixels in [-1, 1] or latents), not {x1.dtype}.")
