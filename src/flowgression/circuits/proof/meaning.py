"""What is claimed: exact integer formulas of the operations, and models written in them.

A model is a list of values. First come its inputs, element by element, then in turn a constant or the result of an
operation on earlier values. `evaluate` gives its outputs on Python integers, which never overflow; `Numbering` gives
every value a tag, equal for equal expressions. A circuit is proved right if its outputs carry the model's tags.

Needs the standard library alone.
"""

import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple


class Rejected(Exception):
    """The proof does not hold; says where."""


def need(holds: bool, what: str) -> None:
    """Raise Rejected unless it holds."""
    if not holds:
        raise Rejected(what)


# ---- formulas ----


def clamp(value: int, width: int | None) -> int:
    """The nearest two's-complement number of `width` bits; value itself for None."""
    return value if width is None else min(max(value, -(1 << width - 1)), (1 << width - 1) - 1)


def narrow(value: int, shift: int, width: int | None) -> int:
    """value 2^-shift, rounded to the nearest integer (halves up), then clamped."""
    return clamp((value + half(shift)) >> shift, width)


def half(shift: int) -> int:
    return 1 << shift >> 1


class Function(NamedTuple):
    """floor((P(x - centre) + 2^(shift - 1)) 2^-shift) for x in lo..hi, P by its coefficients, constant term first; or
    the table of its values.
    """

    lo: int
    hi: int
    centre: int = 0
    coefficients: Sequence[int] = ()
    shift: int = 0
    table: Sequence[int] | None = None

    def __call__(self, x: int) -> int:
        if self.table is not None:
            return self.table[x - self.lo]
        total = 0
        for c in reversed(self.coefficients):
            total = total * (x - self.centre) + c
        return (total + half(self.shift)) >> self.shift


def dot(xs: Sequence[int], ys: Sequence[int], *bias: int, bias_shift: int, shift: int, width: int | None) -> int:
    products = sum(x * y for x, y in zip(xs, ys, strict=True))
    return narrow(products + sum(b << bias_shift for b in bias), shift, width)


def fused(x: int, y: int, z: int, *, shift: int, width: int | None) -> int:
    return narrow(x * y + (z << shift), shift, width)


def mix(*xs: int, coefficients: Sequence[int], shift: int, width: int | None) -> int:
    return narrow(sum(c * x for c, x in zip(coefficients, xs, strict=True)), shift, width)


def total(xs: Sequence[int], *, plus: int) -> int:
    return sum(xs) + plus


def square_sum(xs: Sequence[int], *, plus: int, shift: int, width: int | None) -> int:
    return narrow(sum(x * x for x in xs) + plus, shift, width)


def centred_square_sum(xs: Sequence[int], total: int) -> int:
    return len(xs) ** 2 * sum(x * x for x in xs) - len(xs) * total**2 + 1


def ceiling(xs: Sequence[int], *, shift: int) -> int:
    return 1 + max(x >> shift for x in xs)


def at_least_one(x: int) -> int:
    return max(x, 1)


def apply(x: int, *, function: Mapping[str, Any]) -> int:
    return Function(**function)(x)


def inverse(x: int, *, function: Mapping[str, Any], bits: int, root: int) -> tuple[int, int]:
    """function(m) and 2^e, with e the largest with 2^(root e) <= x, and m = floor(x 2^(bits - root e)); x >= 1."""
    e = (x.bit_length() - 1) // root
    return Function(**function)((x << bits) >> (root * e)), 1 << e


def rescale(x: int, factor: int, power: int, *, shift: int, width: int | None) -> int:
    """x factor / (2^shift power), rounded; shift >= 1."""
    half_divisor = power << (shift - 1)
    return clamp((x * factor + half_divisor) // (2 * half_divisor), width)


def one_hot(index: int, *, size: int) -> int:
    return 1 << min(index, size - 1)


def select(power: int, entries: Sequence[int]) -> int:
    """The entry whose number is the place of the one bit."""
    return entries[power.bit_length() - 1]


FORMULAS: dict[str, Callable[..., Any]] = {
    each.__name__: each
    for each in (
        dot, fused, mix, total, square_sum, centred_square_sum, ceiling, at_least_one, apply, inverse, rescale,
        one_hot, select
    )
}  # fmt: skip
RESULTS = {"inverse": 2}
"""Operations with more than one result."""


# ---- models ----


class Input(NamedTuple):
    """A tensor of numbers of `width` bits, element by element; two's complement if signed."""

    name: str
    shape: tuple[int, ...]
    width: int
    signed: bool

    @property
    def size(self) -> int:
        size = 1
        for side in self.shape:
            size *= side
        return size


class Model(NamedTuple):
    """operations: (name, parameters); steps: an integer for a constant, else [number of operation, *arguments].

    Arguments are numbers of values or lists of them; outputs: name -> numbers of values.
    """

    inputs: list[Input]
    operations: list[tuple[str, dict[str, Any]]]
    steps: list[Any]
    outputs: dict[str, list[int]]


def read_model(data: Mapping[str, Any]) -> Model:
    inputs = [Input(name, tuple(shape), width, signed) for name, shape, width, signed in data["inputs"]]
    operations = [(name, parameters) for name, parameters in data["operations"]]
    return Model(inputs, operations, data["steps"], data["outputs"])


def arrange(tree: Any, leaf: Callable[[Any], Any]) -> Any:
    """The same nested lists, as tuples, with every leaf replaced."""
    return tuple(arrange(item, leaf) for item in tree) if isinstance(tree, (list, tuple)) else leaf(tree)


def leaves(tree: Any) -> Iterator[Any]:
    """The leaves of nested lists, in order."""
    if isinstance(tree, (list, tuple)):
        for item in tree:
            yield from leaves(item)
    else:
        yield tree


def evaluate(model: Model, inputs: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """Outputs of the model on one sample: {name: flat list of integers} -> the same."""
    values: list[int] = [int(v) for each in model.inputs for v in inputs[each.name]]
    for step in model.steps:
        if isinstance(step, int):
            values.append(step)
            continue
        name, parameters = model.operations[step[0]]
        result = FORMULAS[name](*arrange(step[1:], lambda k: values[k]), **parameters)
        values.extend(result if RESULTS.get(name, 1) > 1 else [result])
    return {name: [values[k] for k in numbers] for name, numbers in model.outputs.items()}


class Numbering:
    """Tags of expressions: two expressions have the same tag only if they are the same, or both equal one constant."""

    def __init__(self) -> None:
        self._tags: dict[Hashable, int] = {}
        self._operations: dict[str, int] = {}
        self._constant: dict[int, int] = {}

    def _tag(self, expression: Hashable) -> int:
        tag = self._tags.setdefault(expression, len(self._tags))
        return self._constant.get(tag, tag)

    def constant(self, value: int) -> int:
        return self._tag(("constant", value))

    def input(self, k: int) -> int:
        return self._tag(("input", k))

    def operation(self, name: str, parameters: Mapping[str, Any]) -> int:
        """A number for an operation with its parameters."""
        words = json.dumps([name, parameters], sort_keys=True)
        return self._operations.setdefault(words, len(self._operations))

    def result(self, operation: int, arguments: Hashable, k: int = 0) -> int:
        """Result k of an operation on tags."""
        return self._tag((operation, arguments, k))

    def equal_constant(self, tag: int, value: int) -> None:
        """From now on this expression counts as the constant it was proved to be."""
        self._constant[tag] = self.constant(value)

    def outputs(self, model: Model) -> dict[str, list[int]]:
        """Tags of the model's outputs."""
        tags = [self.input(k) for k in range(sum(each.size for each in model.inputs))]
        operations = [self.operation(*each) for each in model.operations]
        for step in model.steps:
            if isinstance(step, int):
                tags.append(self.constant(step))
                continue
            arguments = arrange(step[1:], lambda k: tags[k])
            name = model.operations[step[0]][0]
            tags.extend(self.result(operations[step[0]], arguments, k) for k in range(RESULTS.get(name, 1)))
        return {name: [tags[k] for k in numbers] for name, numbers in model.outputs.items()}
