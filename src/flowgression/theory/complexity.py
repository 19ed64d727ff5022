"""Time, memory and FLOPs against the side n of the feature map, and the exponents that fit them.

A map of side n has N = n^2 tokens. Exact attention compares all pairs, n^4; the theorem promises n^(2+o(1)) for bounded
entries (arXiv 2502.16490). Both for one attention and for whole models, whose other layers cost n^2 anyway.
"""

import math
import os
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from flowgression.errors import InputError
from flowgression.families.flowar.model import FlowAR
from flowgression.families.flowar.scales import to_map
from flowgression.ops.lowrank import lowrank_attention, softmax_attention
from flowgression.theory.cost import count

SIDES = (8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512)
REPEATS = 5
ATTENTION, MODELS = "attention", "models"
NAIVE = "softmax, naive"
SHARES = {ATTENTION: 1, MODELS: 4}  # of the time, per method


@dataclass(frozen=True)
class Sizes:
    """What is measured. One head of width `head_width`, and models of one block before and one after the second
    position table and one in the flow head, of width `width` with heads of the same width.
    """

    head_width: int = 8
    width: int = 32
    degrees: tuple[int, ...] = (2, 4)
    max_tau: float = 2.0


class Point(NamedTuple):
    """One measurement. seconds: median; processor time on one thread of a processor, else elapsed.

    flops, peak_bytes: see `count`.
    """

    side: int
    seconds: float
    flops: int
    peak_bytes: int


class Exponent(NamedTuple):
    """Slope of log(figure) over log(n) by least squares, and the ends of its 95 % interval (Student's t)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass
class Curve:
    """All points of one method. kind: attention or models. theory: the exponent of the theory, 4 or 2."""

    name: str
    kind: str
    theory: int
    points: list[Point] = field(default_factory=list)

    def upper_half(self) -> list[Point]:
        """The points of the larger sides, three at least; none if there are fewer."""
        count = max(3, (len(self.points) + 1) // 2)
        return self.points[-count:] if len(self.points) >= count else []

    def exponent(self, figure: str) -> Exponent | None:
        """Of "seconds", "flops" or "peak_bytes", over the upper half; None for fewer than three points."""
        from scipy import stats

        upper = self.upper_half()
        if not upper:
            return None
        x = torch.tensor([float(p.side) for p in upper], dtype=torch.float64).log()
        y = torch.tensor([float(getattr(p, figure)) for p in upper], dtype=torch.float64).log()
        fit = stats.linregress(x.numpy(), y.numpy())
        half = stats.t.ppf(0.975, len(upper) - 2) * fit.stderr
        return Exponent(fit.slope, fit.slope - half, fit.slope + half)


class _Method(NamedTuple):
    """A way to compute: `prepare(side)` gives what is timed. quadratic_memory: it holds a matrix of N x N numbers."""

    curve: Curve
    prepare: Callable[[int], Callable[[], Any]]
    quadratic_memory: bool = False


def measure_complexity(
    kinds: Sequence[str] = (ATTENTION, MODELS),
    *,
    sizes: Sizes = Sizes(),
    sides: Sequence[int] = SIDES,
    max_seconds: float = 120.0,
    device: torch.device | str = "cpu",
    progress: Callable[[str], None] = lambda line: None,
) -> list[Curve]:
    """Measure every method at growing sides, each as far as its share of `max_seconds` goes.

    A side is begun only if its time, foretold from the last with the theory's exponent, fits the share that is left.

    Args:
        sides: growing, each at least 2.
        progress: called with a line before every measurement.

    Raises:
        InputError: sides that do not grow, or no time.
    """
    if list(sides) != sorted(set(sides)) or len(sides) < 3 or sides[0] < 2:
        raise InputError(f"sides are {list(sides)}; expected three or more growing numbers from 2 on.")
    if max_seconds <= 0:
        raise InputError(f"max_seconds is {max_seconds}; expected a positive number.")
    methods = list(_methods(kinds, sizes, torch.device(device)))
    total = sum(SHARES[method.curve.kind] for method in methods)
    for method in methods:
        share = max_seconds * SHARES[method.curve.kind] / total
        _measure(method, sides, share, torch.device(device), progress)
    return [method.curve for method in methods]


def _measure(
    method: _Method, sides: Sequence[int], share: float, device: torch.device, progress: Callable[[str], None]
) -> None:
    deadline, curve, cost, overhead = time.monotonic() + share, method.curve, 0.0, None
    for previous, side in zip((0, *sides), sides, strict=False):
        # What the smallest side costs is taken for overhead; what is more grows as the theory says.
        foretold = 0.0 if overhead is None else overhead + (cost - overhead) * (side / previous) ** curve.theory
        if foretold > deadline - time.monotonic() or (method.quadratic_memory and 12 * side**4 > _free_memory(device)):
            return
        progress(f"{curve.name}, n = {side}")
        compute = method.prepare(side)
        start = time.monotonic()
        counted = count(compute)  # the first run, which also warms up
        cost = time.monotonic() - start
        times: list[float] = []
        while len(times) < REPEATS and (not times or time.monotonic() + cost < deadline):
            times.append(_seconds(compute, device))
        cost += statistics.median(times)
        overhead = cost if overhead is None else min(overhead, cost)
        curve.points.append(Point(side, statistics.median(times), counted.flops, counted.peak_bytes))


def _seconds(compute: Callable[[], Any], device: torch.device) -> float:
    """Processor time on one thread of a processor, so that other work counts little; else time until it is done."""
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    with torch.no_grad():
        _wait_for(device)
        start = clock()
        compute()
        _wait_for(device)
        return clock() - start


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _free_memory(device: torch.device) -> float:
    """Bytes that may be used; half of a processor's memory where free memory cannot be asked for."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        found = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text())
        if found:
            return 1024 * float(found[1])
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2
    return math.inf


def _methods(kinds: Sequence[str], sizes: Sizes, device: torch.device) -> Iterator[_Method]:
    if ATTENTION in kinds:
        named: dict[str, tuple[int, Callable[[list[Tensor]], Any]]] = {
            NAIVE: (4, lambda x: _naive_softmax(x, sizes.max_tau)),
            "softmax, fused": (4, lambda x: softmax_attention(*x, scale=sizes.max_tau)),
        }
        for degree in sizes.degrees:
            named[f"low rank, degree {degree}"] = (2, _lowrank(degree, sizes.max_tau))
        for name, (theory, attend) in named.items():
            yield _Method(
                Curve(name, ATTENTION, theory), _attention(attend, sizes, device), quadratic_memory=name == NAIVE
            )
    if MODELS in kinds:
        for name, theory, attention in (("FlowAR", 4, "exact"), ("FastFlowAR", 2, "lowrank")):
            yield _Method(Curve(name, MODELS, theory), _generation(attention, sizes, device))


def _lowrank(degree: int, tau: float) -> Callable[[list[Tensor]], Any]:
    return lambda x: lowrank_attention(*x, degree=degree, bound=tau, scale=tau)


def _naive_softmax(inputs: list[Tensor], tau: float) -> Tensor:
    q, k, v = inputs
    return (tau * q @ k.mT).softmax(-1) @ v


def _attention(
    attend: Callable[[list[Tensor]], Any], sizes: Sizes, device: torch.device
) -> Callable[[int], Callable[[], Any]]:
    def prepare(side: int) -> Callable[[], Any]:
        generator = torch.Generator().manual_seed(side)
        q, k, v = torch.randn(3, 1, 1, side**2, sizes.head_width, generator=generator).to(device)
        inputs = [normalize(q, dim=-1), normalize(k, dim=-1), v]
        return lambda: attend(inputs)

    return prepare


def _generation(attention: str, sizes: Sizes, device: torch.device) -> Callable[[int], Callable[[], Any]]:
    def prepare(side: int) -> Callable[[], Any]:
        torch.manual_seed(side)
        heads = max(1, sizes.width // sizes.head_width)
        model = FlowAR(
            sample_size=side,
            in_channels=4,
            scales=model_scales(side),
            hidden_size=sizes.width,
            encoder_depth=1,
            decoder_depth=1,
            num_heads=heads,
            flow_width=sizes.width,
            flow_depth=1,
            flow_num_heads=heads,
            num_classes=10,
            attention=attention,
            attention_degree=sizes.degrees[0],
            attention_max_tau=sizes.max_tau,
        )
        model.to(device).eval()
        return lambda: generation_pass(model)

    return prepare


def model_scales(side: int) -> tuple[int, ...]:
    """1, n/4, n/2, n, rounded: the same proportions at every n, so that nothing but the size changes."""
    return tuple(sorted({1, max(1, round(side / 4)), max(1, round(side / 2)), side}))


def generation_pass(model: Any) -> Tensor:
    """One image through all scales: the transformer once and the flow head once per scale. Returns its latent."""
    labels = torch.zeros(1, dtype=torch.int64, device=model.device)
    cache, latent = model.new_cache(1), torch.empty(0)
    for k, side in enumerate(model.scales):
        semantics, cache = model.next_semantics(latent if k else None, labels, cache)
        noise = torch.randn(1, side**2, model.flow_head.token_channels, device=model.device)
        velocity = model.flow_head(noise, torch.zeros(1, device=model.device), semantics)
        latent = to_map(noise + velocity, model.config.patch_size)
    return latent
