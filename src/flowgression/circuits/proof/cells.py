"""Why each cell is right: one rule for each operation, with the arguments and parameters of its formula in meaning.py.

A rule proves, for all inputs of the cell for which every argument bit is 0 or 1, every argument lies in its interval
and the premises below hold: each result's bits are 0 or 1, its value is the formula's, and it lies in the result's
interval. It returns a bound on the absolute value of every integer that the formula passes through.

Premises, which the wiring must show (checker.py): exactly one bit of `power` (rescale, select) is one; the `total` of
centred_square_sum is that of its xs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flowgression.circuits.proof.diagrams import FALSE, TRUE, Diagrams
from flowgression.circuits.proof.meaning import Function, clamp, half
from flowgression.circuits.proof.netlist import (
    Bit,
    Net,
    Number,
    Value,
    bit_of,
    every_value,
    high_of,
    holds,
    low_of,
    magnitude,
    variables_of,
)
from flowgression.circuits.proof.schema import Rejected, need
from flowgression.circuits.proof.sums import INTEGER_LIMIT, Exact, Sum, exact_number, prove_sum


class Cell(NamedTuple):
    """A distinct cell: its gates, arguments and results, and what the compiler says of its sum or mantissa."""

    net: Net
    operation: str
    parameters: Mapping[str, Any]
    arguments: Sequence[Any]
    results: Sequence[Value]
    sum: Sum | None = None
    mantissa: Sequence[Bit] = ()

    @property
    def argument_bits(self) -> Iterable[Bit]:
        return (bit for x in leaves_of(self.arguments) if isinstance(x, Number) for bit in x.bits)

    @property
    def result(self) -> Value:
        """The only one."""
        (result,) = self.results
        return result

    @property
    def claimed_sum(self) -> Sum:
        if self.sum is None:
            raise Rejected("a result that is not known without its sum")
        return self.sum


def leaves_of(arguments: Any) -> Iterable[Value]:
    """The numbers of nested arguments."""
    for x in arguments:
        if isinstance(x, list):
            yield from leaves_of(x)
        else:
            yield x


def prove_cell(cell: Cell) -> int:
    """Raise Rejected unless the cell is right; returns the bound on its integers."""
    need(cell.operation in RULES, f"there is no rule for the operation {cell.operation!r}")
    bound = RULES[cell.operation](cell, *cell.arguments, **cell.parameters)
    need(bound < INTEGER_LIMIT, "an intermediate result may exceed 63 bits")
    return bound


# ---- sums, then a shift and a clamp ----


def dot(cell: Cell, xs: list[Value], ys: list[Value], *bias: Value, bias_shift: int, shift: int, width: Any) -> int:
    exact = Exact()
    for x, y in zip(xs, ys, strict=True):
        exact.add_product(x, y)
    for b in bias:
        exact.add(b, 1 << bias_shift)
    return _narrowed_sum(cell, exact, shift, width)


def fused(cell: Cell, x: Value, y: Value, z: Value, *, shift: int, width: Any) -> int:
    exact = Exact()
    exact.add_product(x, y)
    exact.add(z, 1 << shift)
    return _narrowed_sum(cell, exact, shift, width)


def mix(cell: Cell, *xs: Value, coefficients: Sequence[int], shift: int, width: Any) -> int:
    exact = Exact()
    for c, x in zip(coefficients, xs, strict=True):
        exact.add(x, c)
    return _narrowed_sum(cell, exact, shift, width)


def total(cell: Cell, xs: list[Value], *, plus: int) -> int:
    exact = Exact()
    for x in xs:
        exact.add(x)
    exact.add(plus)
    return _narrowed_sum(cell, exact, 0, None)


def square_sum(cell: Cell, xs: list[Value], *, plus: int, shift: int, width: Any) -> int:
    exact = Exact()
    for x in xs:
        exact.add_product(x, x)
    exact.add(plus)
    return _narrowed_sum(cell, exact, shift, width)


def centred_square_sum(cell: Cell, xs: list[Value], total: Value) -> int:
    """Where total = sum x, the polynomial is 1 + sum of (D x - total)^2, and so at least 1."""
    exact, size = Exact(), len(xs)
    for x in xs:
        exact.add_product(x, x, size**2)
    exact.add_product(total, total, -size)
    exact.add(1)
    exact.lo, exact.hi = 1, 1 + size**2 * sum(magnitude(x) ** 2 for x in xs)
    return _narrowed_sum(cell, exact, 0, None)


def _narrowed_sum(cell: Cell, exact: Exact, shift: int, width: int | None) -> int:
    exact.add(half(shift))
    if isinstance(cell.result, int):
        ends = clamp(exact.lo >> shift, width), clamp(exact.hi >> shift, width)
        need(ends == (cell.result, cell.result), "a constant result is wrong")
        return exact.bound
    claim = cell.claimed_sum
    prove_sum(cell.net, claim, exact.polynomial, cell.argument_bits)
    _prove_narrow(cell.net, exact_number(claim, exact.lo, exact.hi), shift, width, cell.result)
    return exact.bound


def _prove_narrow(
    net: Net, x: Number, shift: int, width: int | None, result: Value, fixed: Mapping[int, int] | None = None
) -> None:
    """result = clamp(x >> shift) for every x of its interval, where some other nodes have fixed diagrams."""
    lo, hi = clamp(x.lo >> shift, width), clamp(x.hi >> shift, width)
    need(holds(result, lo, hi), "a result may leave its interval")
    if isinstance(result, int):
        return
    diagrams = Diagrams()
    known = variables_of(reversed(x.bits), diagrams) | dict(fixed or {})
    bits, legal = net.number_diagrams(diagrams, x, known)
    value = list(zip(x.weights, bits, strict=True))
    over, at_least = FALSE, TRUE
    if width is not None:
        over = diagrams.at_least(value, clamp(1 << width, width) + 1 << shift)
        at_least = diagrams.at_least(value, clamp(-1 << width, width) << shift)
    for i, found in enumerate(result.bits):
        kept = bits[shift + i] if shift + i < len(bits) else bits[-1] if x.lo < 0 else FALSE
        limits = [FALSE if width is None else clamp(sign << width, width) >> i & 1 for sign in (1, -1)]
        wanted = diagrams.choose(over, limits[0], diagrams.choose(at_least, kept, limits[1]))
        same = diagrams.equal_where(legal, wanted, net.bit_diagram(diagrams, found, known, legal))
        need(same, "a narrowed bit is wrong")


def at_least_one(cell: Cell, x: Value) -> int:
    result = cell.result
    need(holds(result, max(low_of(x), 1), max(high_of(x), 1)), "a result may leave its interval")
    if isinstance(result, int):
        return max(magnitude(x), 1)
    number, diagrams = _as_number(x), Diagrams()
    known = variables_of(reversed(number.bits), diagrams)
    bits, legal = cell.net.number_diagrams(diagrams, number, known)
    positive = diagrams.at_least(zip(number.weights, bits, strict=True), 1)
    for i, found in enumerate(result.bits):
        kept = bits[i] if i < len(bits) else bits[-1] if number.lo < 0 else FALSE
        wanted = diagrams.choose(positive, kept, TRUE if i == 0 else FALSE)
        same = diagrams.equal_where(legal, wanted, cell.net.bit_diagram(diagrams, found, known, legal))
        need(same, "a maximum is wrong")
    return max(magnitude(x), 1)


def _as_number(x: Value) -> Number:
    """A number, also for a constant of at least 0."""
    if isinstance(x, Number):
        return x
    need(x >= 0, "a constant below zero")
    return Number(x, x, tuple(Bit(x >> j & 1) for j in range(max(x.bit_length(), 1))))


def ceiling(cell: Cell, xs: list[Value], *, shift: int) -> int:
    """1 + v for the highest v that some x reaches: x >= v 2^shift."""
    result = cell.result
    lo, hi = (max(end(x) >> shift for x in xs) for end in (low_of, high_of))
    need(holds(result, lo + 1, hi + 1), "a result may leave its interval")
    diagrams, legal, values = Diagrams(), TRUE, []
    known = variables_of((bit for x in xs if isinstance(x, Number) for bit in reversed(x.bits)), diagrams)
    for x in xs:
        if isinstance(x, Number):
            bits, proper = cell.net.number_diagrams(diagrams, x, known)
            legal = diagrams.all_of(legal, proper)
            values.append((list(zip(x.weights, bits, strict=True)), 0))
        else:
            values.append(([], x))
    need(hi - lo < 1 << 16, "a maximum of more values than are enumerated")
    reached = []
    for v in range(lo + 1, hi + 1):
        some = [(1, diagrams.at_least(terms, (v << shift) - const)) for terms, const in values]
        reached.append((v, diagrams.at_least(some, 1)))
    for j, found in enumerate(() if isinstance(result, int) else result.bits):
        wanted = lo + 1 >> j & 1
        for v, above in reached:
            wanted = diagrams.choose(above, v + 1 >> j & 1, wanted)
        same = diagrams.equal_where(legal, wanted, cell.net.bit_diagram(diagrams, found, known, legal))
        need(same, "a maximum is wrong")
    return max(abs(lo), abs(hi)) + 1


# ---- functions of one number, on every argument ----


def apply(cell: Cell, x: Value, *, function: Mapping[str, Any]) -> int:
    values, known = _cases(x)
    return _prove_function(cell.net, function, values, known, cell.result)


def _cases(x: Value) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Every value of the argument, and its nodes' values then."""
    values, known = (np.array([x]), {}) if isinstance(x, int) else every_value(x)
    need(len(values) > 0, "an argument without a value")
    return values, known


def _prove_function(
    net: Net, function: Mapping[str, Any], values: np.ndarray, known: dict[int, np.ndarray], result: Value
) -> int:
    """result = function(value) in every case, where the known nodes cut the result off from all others."""
    defined = Function(**function)
    need(defined.lo <= values.min() and values.max() <= defined.hi, "an argument outside of the function's domain")
    wanted = [defined(int(v)) for v in values]
    need(holds(result, min(wanted), max(wanted)), "a function's value may leave its interval")
    need(bool(np.all(net.decode(result, known) == np.array(wanted))), "a function's value is wrong")
    return max(map(abs, wanted))


def one_hot(cell: Cell, index: Value, *, size: int) -> int:
    result = _with_bits(cell.result)
    values, known = _cases(index)
    need(bool(values.min() >= 0), "a negative index")
    need(len(result.bits) == size and result.holds(0, 1 << (size - 1)), "a selector for each entry")
    cell.net.extend(known, (n for bit in result.bits for n in bit.nodes))
    for k, bit in enumerate(result.bits):
        found = bit.const + sum(w * known[n].astype(int) for n, w in zip(bit.nodes, bit.weights, strict=True))
        need(bool(np.all(found == (np.minimum(values, size - 1) == k))), "a selector is wrong")
    return 0  # nothing is computed with the power of two itself


# ---- most significant bit, mantissa, and the shift by it ----


def inverse(cell: Cell, x: Value, *, function: Mapping[str, Any], bits: int, root: int) -> int:
    """By diagrams, exponent by exponent: which selector is one, and the mantissa's bits; then the function on every
    mantissa.
    """
    number = _as_number(x)
    result, power = cell.results[0], _with_bits(cell.results[1])
    selectors = power.bits
    need(number.lo >= 1 and number.hi < min(1 << root * len(selectors), 1 << 61), "an argument without a position")
    need(power.lo == 0 and power.holds(0, 1 << len(selectors) - 1), "a power's interval")
    _prove_exponents(cell.net, number, selectors, cell.mantissa, bits, root)
    values, known = _cases(Number(1 << bits, (1 << bits + root) - 1, tuple(cell.mantissa)))
    largest = _prove_function(cell.net, function, values, known, result)
    return max(largest, number.hi, 1 << bits + root)


def _with_bits(x: Value) -> Number:
    if isinstance(x, Number):
        return x
    raise Rejected("a number that must have bits is a constant")


def _prove_exponents(
    net: Net, x: Number, selectors: Sequence[Bit], mantissa: Sequence[Bit], bits: int, root: int
) -> None:
    """Where 2^(root e) <= x < 2^(root (e + 1)): selector e alone is one, and mantissa = floor(x 2^(bits - root e))."""
    diagrams = Diagrams()
    known = variables_of(reversed(x.bits), diagrams)
    x_bits, legal = net.number_diagrams(diagrams, x, known)
    value = list(zip(x.weights, x_bits, strict=True))
    found = [net.bit_diagram(diagrams, bit, known, legal) for bit in (*selectors, *mantissa)]
    for e in range(len(selectors)):
        beyond = diagrams.negation(diagrams.at_least(value, 1 << root * (e + 1)))
        here = diagrams.all_of(legal, diagrams.at_least(value, 1 << root * e), beyond)
        wanted = [TRUE if k == e else FALSE for k in range(len(selectors))]
        for j in range(bits + root):
            place = j - bits + root * e
            wanted.append(x_bits[place] if 0 <= place < len(x_bits) else FALSE)
        for f, g in zip(found, wanted, strict=True):
            need(diagrams.equal_where(here, f, g), "an exponent or a mantissa is wrong")


def rescale(cell: Cell, x: Value, factor: Value, power: Value, *, shift: int, width: Any) -> int:
    """The sum is exact; its shift is proved once for each node of the selectors, all others being zero."""
    product = Exact()
    product.add_product(x, factor)
    lo, hi = product.lo, product.hi
    product.add(power, 1 << (shift - 1))
    cases = _selected(_with_bits(power))
    if isinstance(cell.result, int):
        adds = [(shift + l, 1 << (shift - 1 + l)) for l, _ in cases]
        found = {clamp(end + add >> whole, width) for whole, add in adds for end in (lo, hi)}
        need(found == {cell.result}, "a constant result is wrong")
        return _rescale_bound(x, factor, power, shift)
    claim = cell.claimed_sum
    prove_sum(cell.net, claim, product.polynomial, cell.argument_bits)
    whole = exact_number(claim, product.lo, product.hi)
    for l, fixed in cases:
        add = 1 << (shift - 1 + l)
        low = lo + add if whole.lo >= 0 else min(lo + add, -1)  # a wider interval keeps the sign's weight
        _prove_narrow(cell.net, Number(low, hi + add, claim.bits), shift + l, width, cell.result, fixed)
    return _rescale_bound(x, factor, power, shift)


def _rescale_bound(x: Value, factor: Value, power: Value, shift: int) -> int:
    k = min(shift - 1, 31)  # the integer interpreter multiplies the low k digits of x apart from the others
    highest = ((magnitude(x) >> k) + 2) * magnitude(factor) + (high_of(power) << shift - 1 - k)
    return max(highest, magnitude(factor) << k, high_of(power) << shift)


def _selected(power: Number) -> list[tuple[int, dict[int, int]]]:
    """Every case (position of the one bit, values of all the selectors' nodes) of a number that is one-hot."""
    nodes = [n for bit in power.bits for n in bit.nodes]
    plain = all(bit.const == 0 and set(bit.weights) <= {1} for bit in power.bits)
    need(power.lo == 0 and power.holds(0, 1 << len(power.bits) - 1), "a power's interval")
    if not plain or len(set(nodes)) < len(nodes):  # few positions: one selector may be the negation of another
        cases = _node_cases(power.bits)
        return [(l, {n: int(values[l]) for n, values in cases.items()}) for l in range(len(power.bits))]
    return [(l, {n: int(n == one) for n in nodes}) for l, bit in enumerate(power.bits) for one in bit.nodes]


# ---- choice of an entry ----


def select(cell: Cell, power: Value, entries: list[Value]) -> int:
    """Each bit is a gate on selectors and on ANDs of one selector and one node: look at it selector by selector."""
    result, selectors = cell.result, _with_bits(power).bits
    need(len(selectors) == len(entries), "an entry for each selector")
    need(holds(result, min(map(low_of, entries)), max(map(high_of, entries))), "a result may leave its interval")
    if isinstance(result, Number):
        cases = _node_cases(selectors)
        for j, bit in enumerate(result.bits):
            _prove_chosen(cell.net, bit, [bit_of(entry, j) for entry in entries], cases)
    return max(map(magnitude, entries))


def _node_cases(selectors: Sequence[Bit]) -> dict[int, np.ndarray]:
    """Values of the selectors' nodes in every case "selector k alone is one"; they must follow one from another."""
    cases: list[dict[int, int]] = []
    for k in range(len(selectors)):
        known: dict[int, int] = {}
        queue = list(enumerate(selectors))
        while queue:
            waiting = []
            for i, bit in queue:
                terms = list(zip(bit.nodes, bit.weights, strict=True))
                free = [(n, w) for n, w in terms if n not in known]
                rest = int(i == k) - bit.const - sum(w * known[n] for n, w in terms if n in known)
                if len(free) > 1:
                    waiting.append((i, bit))
                elif free:
                    need(rest in (0, free[0][1]), "selectors that cannot be one-hot")
                    known[free[0][0]] = rest // free[0][1]
                else:
                    need(rest == 0, "selectors that cannot be one-hot")
            need(len(waiting) < len(queue), "a selector's nodes do not follow from its value")
            queue = waiting
        cases.append(known)
    return {n: np.array([case[n] for case in cases], dtype=np.int64) for n in cases[0]}


def _prove_chosen(net: Net, bit: Bit, choices: Sequence[Bit], cases: Mapping[int, np.ndarray]) -> None:
    """In every case l the bit is choices[l], a constant or a node."""
    row, theta = dict(zip(bit.nodes, bit.weights, strict=True)), 1 - bit.const
    if (bit.const, bit.weights) == (0, (1,)) and bit.nodes[0] >= net.num_inputs:
        row, theta = dict(net.gate(bit.nodes[0])[0]), net.gate(bit.nodes[0])[1]
    else:
        need(bit.plainly_a_bit, "a chosen bit is not plain")
    base = np.zeros(len(choices), dtype=np.int64)
    gated: dict[int, int] = {}
    for node, weight in row.items():
        if node in cases:
            base += weight * cases[node]
            continue
        need(weight == 1, "a chosen bit is no sum of ANDs")
        case, entry = _gated(net, node, cases, len(choices))
        need(case not in gated, "two ANDs of one selector")
        gated[case] = entry
    for l, choice in enumerate(choices):
        if l in gated:
            right = choice == Bit(0, (gated[l],), (1,)) and base[l] < theta <= base[l] + 1
        else:
            right = not choice.nodes and choice.const == (base[l] >= theta)
        need(bool(right), "a wrong entry is chosen")


def _gated(net: Net, node: int, cases: Mapping[int, np.ndarray], count: int) -> tuple[int, int]:
    """(case, entry): the node is zero in all other cases, and there it is the entry's node."""
    row, theta = net.gate(node)
    entries = [n for n in row if n not in cases]
    need(len(entries) == 1, "a chosen bit is no AND of a selector and a node")
    sum_ = sum((w * cases[n] for n, w in row.items() if n in cases), np.zeros(count, dtype=np.int64))
    when_zero, when_one = sum_ >= theta, sum_ + row[entries[0]] >= theta
    need(not when_zero.any() and when_one.sum() == 1, "a chosen bit is no AND of a selector and a node")
    return int(when_one.argmax()), entries[0]


RULES: dict[str, Callable[..., int]] = {
    each.__name__: each
    for each in (
        dot, fused, mix, total, square_sum, centred_square_sum, ceiling, at_least_one, apply, inverse, rescale,
        one_hot, select
    )
}  # fmt: skip
