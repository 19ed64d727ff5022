"""Figures of low-rank attention: speed and its exponent, memory, errors, certificate. One head, one thread; then the
exponents of whole models.

    python benchmarks/lowrank.py [--repeats 7]

Prints every figure with what is required of it, PASS or the shortfall, and exits with 1 if one falls short. Times are
processor time of this process, taken in turns with torch's scaled_dot_product_attention, and medians; so other work on
the machine disturbs them little. n is the side of a feature map of N = n^2 tokens.
"""

import argparse
import math
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import torch
from comparators import nystrom_attention, performer_attention, svd_attention
from torch import Tensor
from torch.nn.functional import normalize

from flowgression.ops.lowrank import (
    error_certificate,
    lowrank_attention,
    minimax_exp,
    rank,
    size_rule,
    softmax_attention,
)
from flowgression.theory.complexity import measure_complexity

SIDES = (32, 45, 64, 91, 128)
LARGE_SIDES = (128, 181, 256, 362, 512)  # where the fixed cost of a call no longer flatters the exponent
WIDTH = 8


class Report:
    """Prints figures against their limits and remembers whether one fell short."""

    def __init__(self) -> None:
        self.passed = True

    def check(self, name: str, value: float, *, at_most: float = math.inf, at_least: float = -math.inf) -> None:
        good = at_least <= value <= at_most
        required = f"<= {at_most:g}" if at_most < math.inf else f">= {at_least:g}"
        verdict = "PASS" if good else f"short by {abs(value - (at_most if value > at_most else at_least)):.3g}"
        print(f"{name:<68} {value:>10.3g}  {required:<10} {verdict}")
        self.passed &= good


def inputs(n: int, kind: str = "random", heads: int = 1, seed: int = 0) -> list[Tensor]:
    """Unit queries and keys [heads, n^2, 8] and values in [-1, 1]; "clustered" ties the values to clusters of keys."""
    generator = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(3, heads, n * n, WIDTH, generator=generator)
    v = v.clamp(-1, 1)
    if kind == "clustered":
        centres = torch.randn(heads, 4, WIDTH, generator=generator)
        cluster = torch.randint(4, (n * n,), generator=generator)
        q, k = centres[:, cluster.roll(1)] + 0.05 * q, centres[:, cluster] + 0.05 * k
        v = v[:, :4].sign()[:, cluster]
    return [normalize(q, dim=-1), normalize(k, dim=-1), v]


def lowrank(x: list[Tensor], degree: int, tau: float = 1.0) -> Tensor:
    return lowrank_attention(*x, degree=degree, bound=tau, scale=tau).output


def exact(x: list[Tensor], tau: float = 1.0) -> Tensor:
    return softmax_attention(*x, scale=tau).output


def measure(names: Sequence[str], sides: Sequence[int], repeats: int) -> dict[str, dict[int, float]]:
    """Median seconds of every method at every side; the methods take turns, so that they meet the same machine."""
    methods: dict[str, Callable[[list[Tensor]], Tensor]] = {
        "SDPA": exact,
        "g=2": lambda x: lowrank(x, 2),
        "g=4": lambda x: lowrank(x, 4),
    }
    times: dict[str, dict[int, float]] = {name: {} for name in names}
    for n in sides:
        x = inputs(n)
        runs: dict[str, list[float]] = {name: [] for name in names}
        for turn in range(repeats + 1):
            for name in names:
                start = time.process_time()
                methods[name](x)
                if turn:  # the first turn warms up
                    runs[name].append(time.process_time() - start)
        for name in names:
            times[name][n] = statistics.median(runs[name])
    print("\nmilliseconds, n =" + "".join(f"{n:>10}" for n in sides))
    for name, row in times.items():
        print(f"  {name:<15}" + "".join(f"{1e3 * t:>10.2f}" for t in row.values()))
    return times


def slope(times: dict[int, float]) -> float:
    """Exponent of the time in n: least squares of log time on log n."""
    x, y = [math.log(n) for n in times], [math.log(t) for t in times.values()]
    return statistics.linear_regression(x, y).slope


def report_speed(report: Report, repeats: int) -> None:
    times = measure(("SDPA", "g=2", "g=4"), SIDES, repeats)
    large = measure(("g=2", "g=4"), LARGE_SIDES, repeats)
    print()
    report.check("exponent of the time in n, SDPA, n = 32 to 128", slope(times["SDPA"]), at_least=3.6)
    for name in large:
        report.check(f"exponent of the time in n, {name}, n = 32 to 128", slope(times[name]), at_most=2.3)
        report.check(f"exponent of the time in n, {name}, n = 128 to 512", slope(large[name]), at_most=2.3)
    for name, n, wanted in (("g=2", 64, 8), ("g=2", 128, 30), ("g=4", 128, 4)):
        report.check(f"times faster than SDPA, {name}, n = {n}", times["SDPA"][n] / times[name][n], at_least=wanted)


def peak_memory(training: bool) -> float:
    """MiB over the inputs, n = 128, g = 4, in this process, which must be fresh."""

    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux

    def run(x: list[Tensor]) -> None:
        output = lowrank(x, 4)
        if training:
            output.sum().backward()

    run([t.requires_grad_(training) for t in inputs(8)])
    x, ballast, highest = [t.requires_grad_(training) for t in inputs(128)], [], peak()
    while (before := peak()) == highest:  # fill memory up to the peak of the start, so that any more shows
        ballast.append(torch.ones(2**16))
    run(x)
    return (peak() - before) / 1024


def report_memory(report: Report) -> None:
    for name, limit in (("forward", 20.0), ("forward and backward", math.inf)):
        command = [sys.executable, __file__, "--peak", name]
        value = float(subprocess.check_output(command))
        if limit < math.inf:
            report.check(f"peak memory over inputs in MiB, {name}, n = 128, g = 4", value, at_most=limit)
        else:
            print(f"{f'peak memory over inputs in MiB, {name}, n = 128, g = 4':<68} {value:>10.3g}")


def error(x: list[Tensor], degree: int, tau: float) -> Tensor:
    """Largest error per head and channel against softmax in float64."""
    return (lowrank(x, degree, tau).double() - exact([t.double() for t in x], tau)).abs().amax(-2)


def report_errors(report: Report) -> None:
    for tau, degree in ((1.0, 4), (1.0, 2), (2.0, 4)):
        worst = max(error(inputs(64, kind), degree, tau).max().item() for kind in ("random", "clustered"))
        limit = {(1.0, 4): 5.2e-4, (1.0, 2): 4.2e-2, (2.0, 4): 1.7e-2}[tau, degree]
        report.check(f"error against softmax, tau = {tau:g}, g = {degree}", worst, at_most=limit)
    worst = 0.0
    for kind in ("random", "clustered"):
        for tau in (1.0, 2.0, 4.0):
            x = inputs(64, kind)
            difference = lowrank(x, 4, tau).double() - lowrank([t.double() for t in x], 4, tau)
            worst = max(worst, difference.abs().max().item())
    report.check("float32 against float64, same polynomial, g = 4, B <= 4", worst, at_most=2e-5)


def report_certificate(report: Report) -> None:
    for dtype in (torch.float32, torch.float64):
        worst, cases = 0.0, 0
        for seed, (degree, tau) in enumerate((g, tau) for g in (2, 4) for tau in (0.25, 0.5, 1.0, 2.0, 4.0)):
            for kind in ("random", "clustered"):
                x = [t.to(dtype) for t in inputs(8, kind, heads=160, seed=seed)]
                if dtype == torch.float64:
                    x[:2] = [normalize(t, dim=-1) for t in x[:2]]
                certificate = error_certificate(x[2], degree=degree, bound=tau, head_dim=WIDTH)
                worst = max(worst, (error(x, degree, tau) / certificate.total).max().item())
                cases += 160
        name = f"largest error over certificate in {cases} cases, {str(dtype).removeprefix('torch.')}"
        report.check(name, worst, at_most=1.0)


def report_models(report: Report, seconds: float) -> None:
    """One generation pass of whole models, as `flowgression complexity` measures it."""
    for curve in measure_complexity(("models",), max_seconds=seconds):
        points = ", ".join(f"{point.side}: {1e3 * point.seconds:.3g}" for point in curve.points)
        print(f"\nmilliseconds of one generation pass at side n, {curve.name}: {points}")
        limits = {"at_least": 3.3} if curve.theory == 4 else {"at_most": 2.3}
        upper = curve.upper_half()
        for figure in ("seconds", "flops"):
            fitted = curve.exponent(figure)
            assert fitted is not None, "give more time: fewer than three sides were measured"
            name = f"exponent in n of {figure}, {curve.name}, n = {upper[0].side} to {upper[-1].side}"
            report.check(name, fitted.value, **limits)


def compare_methods() -> None:
    """Errors at equal rank 495, for the reader: the others have no certificate, and Nystrom no causal form."""
    print("\nlargest error at rank 495, N = 1024, |v| <= 1: polynomial (g = 4), Performer, Nystrom, truncated SVD")
    size = rank(WIDTH, 4)
    for kind in ("random", "clustered"):
        for tau in (1.0, 2.0, 4.0):
            x = [t.double() for t in inputs(32, kind)]
            reference, generator = exact(x, tau), torch.Generator().manual_seed(0)
            outputs = (
                lowrank(x, 4, tau),
                performer_attention(*x, num_features=size, generator=generator, scale=tau),
                nystrom_attention(*x, num_landmarks=size, generator=generator, scale=tau),
                svd_attention(*x, num_components=size, scale=tau),
            )
            errors = "".join(f"{(o - reference).abs().max().item():>11.1e}" for o in outputs)
            print(f"  {kind:<10} B = {tau:g} {errors}")


def compare_sizes() -> None:
    """The state against the key-value cache, numbers per head, scales 1 x 1 to 64 x 64."""
    tokens = sum(4**i for i in range(7))
    print(f"\nnumbers kept per head for {tokens} tokens (scales 1 to 64): cache, state g = 2, state g = 4")
    for d in (8, 16, 32, 64):
        states = "".join(f"{rank(d, g) * (d + 1):>12,}" for g in (2, 4))
        print(f"  d = {d:<3} {2 * d * tokens:>12,}{states}")


def compare_polynomials() -> None:
    print("\nrelative error eps of the polynomial (and of the size rule)")
    for tau in (0.5, 1.0, 2.0, 4.0, 8.0):
        row = "".join(f"   g={g}: {minimax_exp(g, tau).eps:.1e} ({size_rule(g, tau):.1e})" for g in (2, 4, 6, 8))
        print(f"  B = {tau:<4g}{row}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="timed turns per method and side")
    parser.add_argument("--model-seconds", type=float, default=300.0, help="time for the whole models")
    parser.add_argument("--peak", choices=["forward", "forward and backward"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak:
        print(peak_memory(training=arguments.peak != "forward"))
        return
    print(f"{platform.machine()}, one thread, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    report = Report()
    report_speed(report, arguments.repeats)
    report_memory(report)
    report_errors(report)
    report_certificate(report)
    report_models(report, arguments.model_seconds)
    compare_methods()
    compare_sizes()
    compare_polynomials()
    sys.exit(0 if report.passed else 1)


if __name__ == "__main__":
    main()
