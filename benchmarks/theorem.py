"""The theorem measured: bounded FlowARs at growing n, approximated to an error of 1/N, in almost quadratic time.

Random FlowARs with attention="bounded" (one block before and one after the second position table, one in the flow
head; two heads of width 4, or of width ln N) draw one image by `generation_pass`. At each n the smallest even degree is
taken, the same in all layers, whose output is off by at most 1/N on the same noise. Processor time of one thread,
medians; FLOPs counted.

And what the certificate says, without any model, when logits grow like ln N: `--limits` alone prints that.

  python benchmarks/theorem.py --plot docs/images/theorem.png
  python benchmarks/theorem.py --heads log --sides 16,23,32,45,64,91,128    # heads as wide as the paper's, d = O(log N)
"""

import argparse
import datetime
import math
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from flowgression.families.flowar.approximated import with_polynomials
from flowgression.families.flowar.model import FlowAR
from flowgression.families.flowar.probe import attention_names
from flowgression.files import atomic_write
from flowgression.flops import count_flops
from flowgression.ops.lowrank import rank
from flowgression.ops.lowrank.minimax import size_rule
from flowgression.theory.complexity import MODELS, Curve, Point, generation_pass, model_scales

SIDES = (16, 23, 32, 45, 64, 91, 128, 181, 256, 362)
LONG = 20  # seconds of a draw that is not repeated
HEAD_WIDTH, HEADS = 4, 2
DEGREES = (2, 4, 6, 8, 10)
BOUNDS = {
    "B = 0.5": lambda tokens: 0.5,
    "B = sqrt(ln N) / ln ln N": lambda tokens: math.sqrt(math.log(tokens)) / math.log(math.log(tokens)),
}


def head_width(tokens: int, heads: str) -> int:
    """4, or with "log" ln N rounded up to a multiple of 4, which rotary positions need."""
    return HEAD_WIDTH if heads == "fixed" else 4 * math.ceil(math.log(tokens) / 4)


def bounded_model(side: int, bound: float, head_size: int) -> FlowAR:
    """Random, every weight other than 0, with logits of up to 0.98 `bound`."""
    torch.manual_seed(side)
    width, heads = HEADS * head_size, HEADS
    sizes = {"hidden_size": width, "flow_width": width, "encoder_depth": 1, "decoder_depth": 1, "flow_depth": 1}
    model = FlowAR(
        sample_size=side,
        in_channels=4,
        scales=model_scales(side),
        num_heads=heads,
        flow_num_heads=heads,
        num_classes=10,
        attention="bounded",
        attention_max_tau=bound,
        **sizes,
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5 / math.sqrt(width))
    for name in attention_names(model):
        attention: Any = model.get_submodule(f"{name}.attention")
        attention.set_tau(torch.full((heads,), bound))
    return model.eval()


@torch.no_grad()
def timed(model: FlowAR, max_repeats: int) -> tuple[torch.Tensor, float, int]:
    """The image of the noise of seed 0, the median of processor times, and FLOPs.

    The first draw warms up while FLOPs are counted; it is the only one where it takes `LONG` or more.
    """
    outputs: list[torch.Tensor] = []
    seconds: list[float] = []

    def draw() -> None:
        torch.manual_seed(0)
        start = time.process_time()
        outputs[:] = [generation_pass(model)]
        seconds.append(time.process_time() - start)

    flops = count_flops(draw)
    if seconds[0] < LONG:
        seconds.clear()
        while len(seconds) < max_repeats and (len(seconds) < 2 or sum(seconds) < 2):
            draw()
    return outputs[0], statistics.median(seconds), flops


def measure(sides: list[int], family: str, max_repeats: int, heads: str) -> tuple[Curve, Curve]:
    """Exact and approximated; prints a row for every side."""
    exact, fast = Curve(f"exact, {family}", MODELS, 4), Curve(f"approximated, {family}", MODELS, 2)
    print(
        f"\n{family}\n| n | N | d | B | degree | rank / N | error | 1/N | exact, s | approximated, s | ratio of FLOPs |"
    )
    print("| " + "--- | " * 11)
    for side in sides:
        tokens = side**2
        bound = BOUNDS[family](tokens)
        width = head_width(tokens, heads)
        model = bounded_model(side, bound, width)
        wanted, seconds, flops = timed(model, max_repeats)
        exact.points.append(Point(side, seconds, flops, 0))
        for degree in DEGREES:
            polynomials = dict.fromkeys(attention_names(model), (degree, bound))
            approximated = with_polynomials(model, polynomials, {})
            torch.manual_seed(0)
            with torch.no_grad():
                error = (generation_pass(approximated) - wanted).abs().max().item()
            if error <= 1 / tokens:
                break
        else:
            raise SystemExit(f"n = {side}: an error of 1/N is missed by every degree up to {DEGREES[-1]} ({error:.2g})")
        _, fast_seconds, fast_flops = timed(approximated, max_repeats)
        fast.points.append(Point(side, fast_seconds, fast_flops, 0))
        ratio = rank(width, degree) / tokens
        print(
            f"| {side} | {tokens:,} | {width} | {bound:.2f} | {degree} | {ratio:.3g} | {error:.1e} | "
            f"{1 / tokens:.1e} | {seconds:.3g} | {fast_seconds:.3g} | {flops / fast_flops:.3g} |",
            flush=True,
        )
    for curve in (exact, fast):
        print(f"{curve.name}: {octaves(curve)}")
    return exact, fast


def octaves(curve: Curve) -> str:
    """Exponents over all sides and over the upper three octaves of them, with 95 % intervals."""
    whole, upper = fitted(curve, curve.points), top(curve)
    return (
        f"time n^{whole.exponent('seconds')} over all sides, n^{upper.exponent('seconds')} over the upper three "
        f"octaves; FLOPs n^{whole.exponent('flops')} and n^{upper.exponent('flops')}"
    )


def top(curve: Curve) -> Curve:
    """The upper three octaves of a curve: down to an eighth of the largest side, rounded down."""
    return fitted(curve, [point for point in curve.points if point.side >= curve.points[-1].side // 8])


def fitted(curve: Curve, points: list[Point]) -> Curve:
    """A curve whose exponents are those of all these points."""
    found = Curve(curve.name, curve.kind, curve.theory, points)
    found.upper_half = lambda: points  # type: ignore[method-assign]
    return found


def limits() -> None:
    """Degree and rank for an error of 1/N over values that spread by 2, in heads of width ln N; no model is run."""
    print("\nheads of width d = ln N, error 1/N, even degrees, by eps <= 2 (B/2)^(g+1) / (g+1)!")
    print("| N | d | B = 0.5: degree, r/N | sqrt(ln N)/ln ln N | 0.5 ln N | ln N |\n" + "| --- " * 6 + "|")
    for power in (10, 14, 20, 30, 40, 60):
        tokens = 2**power
        width = math.ceil(math.log(tokens))
        cells = []
        for bound in (0.5, BOUNDS["B = sqrt(ln N) / ln ln N"](tokens), 0.5 * math.log(tokens), math.log(tokens)):
            degree = next(g for g in range(2, 1000, 2) if size_rule(g, bound) <= 1 / tokens)
            cells.append(f"{degree}, {rank(width, degree) / tokens:.2g}")
        print(f"| 2^{power} | {width} | " + " | ".join(cells) + " |")


def plot(pairs: dict[str, tuple[Curve, Curve]], path: Path, title: str) -> None:
    """Time and FLOPs against n, both families."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(1, 2, figsize=(9.5, 4), layout="constrained")
    for axes, (name, label) in zip(grid, {"seconds": "processor seconds", "flops": "FLOPs"}.items(), strict=True):
        for (family, pair), colour in zip(pairs.items(), ("#1f5fa8", "#c0392b"), strict=False):
            for curve, style in zip(pair, ("o-", "s--"), strict=True):
                fit = top(curve).exponent(name)
                power = "" if fit is None else f": n^{fit.value:.2f}"
                x, y = [p.side for p in curve.points], [getattr(p, name) for p in curve.points]
                text = curve.name.split(",")[0] + f", {family}{power}"
                axes.loglog(x, y, style, color=colour, markersize=3.5, label=text)
        sides = [point.side for point in curve.points]
        axes.set_xticks(sides[::2], [str(side) for side in sides[::2]])
        axes.minorticks_off()
        axes.set_xlabel("side n of the feature map")
        axes.set_title(
            f"{label}, one image; error of the output at most 1/N" if name == "seconds" else label, fontsize=9
        )
        axes.legend(fontsize=7)
    figure.suptitle(title, fontsize=9)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", default=",".join(map(str, SIDES)))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--heads", choices=["fixed", "log"], default="fixed", help="width 4, or about ln N")
    parser.add_argument("--limits", action="store_true", help="print what the certificate says, and run no model")
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    limits()
    if args.limits:
        return
    torch.set_num_threads(1)
    sides = [int(side) for side in args.sides.split(",")]
    pairs = {family: measure(sides, family, args.repeats, args.heads) for family in BOUNDS}
    if args.plot:
        plot(
            pairs,
            args.plot,
            f"one thread, torch {torch.__version__}, {datetime.date.today()}; exponents: upper three octaves",
        )


if __name__ == "__main__":
    main()
