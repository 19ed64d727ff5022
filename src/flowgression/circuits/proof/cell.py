"""A distinct cell: its gates, its arguments and results, and what the compiler says of it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from flowgression.circuits.proof.netlist import Bit, Net, Number, Value
from flowgression.circuits.proof.schema import Rejected, need
from flowgression.circuits.proof.sums import Sum


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


def as_number(x: Value) -> Number:
    """A number, also for a constant of at least 0."""
    if isinstance(x, Number):
        return x
    need(x >= 0, "a constant below zero")
    return Number(x, x, tuple(Bit(x >> j & 1) for j in range(max(x.bit_length(), 1))))


def with_bits(x: Value) -> Number:
    if isinstance(x, Number):
        return x
    raise Rejected("a number that must have bits is a constant")
