"""Depth and size of every construction and layer: tables of docs/circuits-measured.md, pictures of docs/circuits.md.

    python benchmarks/circuit_tables.py [OUT_FOLDER]

Prints two Markdown tables (arithmetic at 8 bits; layers at p = 8 and width 4 for n = 2 and 4, counted without
building); with OUT_FOLDER also draws a sum, a product and a function as SVG. A minute or two of CPU.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from flowgression.circuits.arithmetic import division, floating, product, remainder, select
from flowgression.circuits.arithmetic.addition import add
from flowgression.circuits.arithmetic.floating import Format, input_float
from flowgression.circuits.arithmetic.functions import apply_table, function
from flowgression.circuits.arithmetic.number import Number, input_number
from flowgression.circuits.builder import Builder
from flowgression.circuits.compile import Precision, count, outline
from flowgression.circuits.draw import to_svg
from flowgression.circuits.ir import Statistics
from flowgression.circuits.programs import layer_program

FORM = Format(4, 4)
LAYERS = {
    "matmul": "matrix multiplication",
    "linear": "matrix multiplication",
    "mlp": "MLP layer",
    "feed-forward": "feed-forward layer",
    "attention": "attention layer",
    "low-rank-attention": "fast attention",
    "rms-norm": "layer normalisation",
    "layer-norm": "layer normalisation",
    "up-sampling": "up-interpolation",
    "down-sampling": "down-sampling",
    "flow-block": "flow-matching layer",
    "euler-step": "flow matching",
}
"""Our layers and what the paper's lemmas about them are named after."""


def on_numbers(construct: Callable[..., object], *widths: int, signed: bool = False) -> Statistics:
    """Figures of construct(builder, *numbers) on inputs of these widths."""
    builder = Builder(materialise=False)
    construct(builder, *[input_number(builder, width, signed) for width in widths])
    return builder.statistics()


def on_floats(operation: Callable[..., object], count: int) -> Statistics:
    builder = Builder(materialise=False)
    operation(builder, FORM, *[input_float(builder, FORM) for _ in range(count)])
    return builder.statistics()


def _divide(builder: Builder, a: Number, b: Number) -> Number:
    return division.divide(builder, a, Number(b.bits, 1, b.hi))


def arithmetic() -> dict[str, Statistics]:
    """One row for each operation."""
    rows = {f"sum of {m}": on_numbers(add, *[8] * m) for m in (2, 64, 512)}
    rows["product"] = on_numbers(product.multiply, 8, 8)
    rows["dot product of 16"] = on_numbers(lambda b, *x: product.dot(b, x[:16], x[16:]), *[8] * 32)
    rows["comparison"] = on_numbers(select.greater_equal, 8, 8)
    rows["clamp 16 to 8 bits"] = on_numbers(lambda b, x: select.clamp(b, x, 8), 16, signed=True)
    rows["MSB of 16 bits"] = on_numbers(select.most_significant_bit, 16)
    for name in ("exp", "silu", "gelu"):
        values = function(name, -128, 127, 4, 4)
        for back_end, apply in (("table", apply_table), ("crt", remainder.apply_crt)):
            rows[f"{name}, `{back_end}`"] = on_numbers(lambda b, x: apply(b, values, x), 8, signed=True)  # noqa: B023
    rows["product of eight 4-bit numbers"] = on_numbers(lambda b, *x: remainder.iterated_product(b, x), *[4] * 8)
    rows["division"] = on_numbers(_divide, 8, 8)
    operations = {"add": floating.add, "multiply": floating.multiply, "divide": floating.divide}
    rows |= {f"float {name}": on_floats(operation, 2) for name, operation in operations.items()}
    rows["float compare"] = on_floats(floating.greater_equal, 2)
    rows |= {f"float {name} of 8": on_floats(operations[name], 8) for name in ("add", "multiply")}
    unary = {"floor": floating.floor, "square root": floating.square_root, "exp": floating.exponential}
    return rows | {f"float {name}": on_floats(operation, 1) for name, operation in unary.items()}


def draw(folder: Path) -> None:
    """A sum of three 3-bit numbers, a product of two of 2 bits, and SiLU of 4 bits."""
    silu = function("silu", -8, 7, 2, 2)
    parts: dict[str, tuple[str, Callable[..., Number], list[int], bool]] = {
        "sum": ("Sum of three 3-bit numbers", add, [3] * 3, False),
        "product": ("Product of two 2-bit numbers", product.multiply, [2, 2], False),
        "silu": ("SiLU of a 4-bit number: one bank, then telescoping", lambda b, x: apply_table(b, silu, x), [4], True),
    }
    for name, (title, construct, widths, signed) in parts.items():
        builder = Builder()
        result = construct(builder, *[input_number(builder, width, signed) for width in widths])
        (folder / f"circuit_{name}.svg").write_text(to_svg(builder.finish(result.bits), title))


def main() -> None:
    print("| operation | depth | gates | wires | largest weight |\n|---|---:|---:|---:|---:|")
    for name, s in arithmetic().items():
        print(f"| {name} | {s.depth} | {s.gates:,} | {s.wires:,} | {s.largest_weight} |", flush=True)
    titles = ["layer", "the paper's lemma on", "depth, n = 2", "n = 4", "nominal bound"]
    titles += [f"{size}, n = {n}" for size in ("gates", "wires") for n in (2, 4)]
    print(f"\n| {' | '.join(titles)} |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, lemma in LAYERS.items():
        programs = [layer_program(name, n, 4) for n in (2, 4)]
        small, large = (count(each, Precision(8)).total_statistics for each in programs)
        bound = outline(programs[0], Precision(8)).depth
        depths = f"{small.depth} | {large.depth} | {bound}"
        sizes = f"{small.gates:,} | {large.gates:,} | {small.wires:,} | {large.wires:,}"
        print(f"| {name} | {lemma} | {depths} | {sizes} |", flush=True)
    if len(sys.argv) > 1:
        draw(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
