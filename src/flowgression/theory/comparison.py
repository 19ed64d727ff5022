"""A FlowAR and its approximation side by side on the same noise: bounded and measured difference, and time."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from flowgression.families.flowar.model import FlowAR
from flowgression.families.flowar.sampling import sample
from flowgression.theory.approximation import Approximation
from flowgression.theory.error.bound import bound_output


@dataclass(frozen=True)
class Comparison:
    """Figures of one run.

    Attributes:
        exact, approximated: the outputs [B, C, H, H] of both models, in the dtype of the model.
        measured: largest |difference| of their values.
        bound: theorem on the difference of the exact model in exact arithmetic and the approximated one in float64, for
            these labels and this noise; None if not asked for.
        bound_seconds: what it took.
        exact_seconds, approximated_seconds: processor time of one run, median of `repeats`.
    """

    exact: Tensor
    approximated: Tensor
    measured: float
    bound: float | None
    exact_seconds: float
    approximated_seconds: float

    @property
    def time_ratio(self) -> float:
        """exact / approximated: above 1 the approximation is faster."""
        return self.exact_seconds / self.approximated_seconds

    @property
    def pace(self) -> str:
        """What the run took beside the exact one, in words: multiplications do not say how fast they are done."""
        ratio = self.time_ratio
        if 0.95 <= ratio <= 1.05:
            return "as fast as exact attention in this run"
        return f"{ratio:.2f} times as fast in this run" if ratio > 1 else f"slower here: {1 / ratio:.2f} times the time"


@torch.no_grad()
def compare(
    model: FlowAR,
    approximated: FlowAR,
    approximation: Approximation,
    class_labels: Tensor,
    noise: Sequence[Tensor],
    *,
    num_inference_steps: int,
    guidance_scale: float,
    bound: bool = True,
    repeats: int = 3,
) -> Comparison:
    """Draw the same images with both models.

    Args:
        approximated: `model` with the polynomials of `approximation`.
        class_labels: [B]. noise: one tensor [B, s_k^2, P P C] a scale.
        bound: also propagate error balls through a float64 copy; takes memory for the dense logits of one scale.
        repeats: runs of each that are timed, in turn.
    """
    options: dict[str, Any] = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
    outputs: dict[str, Tensor] = {}
    seconds: dict[str, list[float]] = {"exact": [], "approximated": []}
    for _ in range(repeats):
        for name, each in (("exact", model), ("approximated", approximated)):
            start = time.process_time()
            outputs[name] = sample(each, class_labels, noise=noise, **options).sample
            seconds[name].append(time.process_time() - start)
    largest = None
    if bound:
        wide = copy.deepcopy(model).double().cpu()
        found = bound_output(
            wide,
            approximation.polynomials,
            class_labels.cpu(),
            [each.cpu() for each in noise],
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
        )
        largest = found.bound.max().item()
    return Comparison(
        exact=outputs["exact"],
        approximated=outputs["approximated"],
        measured=(outputs["exact"] - outputs["approximated"]).abs().max().item(),
        bound=largest,
        exact_seconds=median(seconds["exact"]),
        approximated_seconds=median(seconds["approximated"]),
    )
