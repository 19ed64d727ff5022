"""What operations mean: exact formulas on Python integers, which never overflow, and what they may be given.

`OPERATIONS` is the whole language in which models are written (model.py); a cell is proved by its formula (cells.py).
Needs the standard library alone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from flowgression.circuits.proof.schema import Damaged, Each, Int, Integers, OrNull, Record, Schema, must

LIMIT = (1 << 62) - 1
"""Of constants and parameters."""
DOMAIN = 1 << 20
"""Arguments of a function, which are enumerated."""
LONGEST = (1 << 4096) - 1
"""Of a polynomial's coefficients and a number's interval."""

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


# ---- what they may be given ----

WHOLE, SHIFT, WIDTH = Int(-LIMIT, LIMIT), Int(0, 62), OrNull(Int(1, 62))
_ENDS: dict[str, Schema] = {"lo": WHOLE, "hi": WHOLE}
_TABLE = Record(**_ENDS, table=Integers(-LIMIT, LIMIT, most=DOMAIN))
_POLYNOMIAL = Record(**_ENDS, centre=WHOLE, coefficients=Integers(-LONGEST, LONGEST, most=64), shift=Int(0, 4096))


def function(x: Any, where: str) -> dict[str, Any]:
    """The schema of a function: by its table or by its polynomial."""
    must(type(x) is dict, f"{where} is no object")
    found = (_TABLE if "table" in x else _POLYNOMIAL)(x, where)
    size = found["hi"] - found["lo"] + 1
    must(1 <= size <= DOMAIN, f"{where} has a domain of {size} arguments; expected 1 to {DOMAIN}")
    must(len(found.get("table", ())) in (0, size), f"{where} has a table of another length than its domain")
    return found


NUMBER, ROW = "a number", "a row"


class Operation(NamedTuple):
    """arguments: kinds of the fixed ones; more: numbers that may follow, at least and at most, by the parameters."""

    formula: Callable[..., Any]
    arguments: tuple[str, ...]
    parameters: Record
    results: int = 1
    more: Callable[[Mapping[str, Any]], tuple[int, int]] = lambda parameters: (0, 0)

    def check(self, parameters: Mapping[str, Any], arguments: Sequence[Any], where: str) -> None:
        """Raises Damaged unless the arguments (lists for rows) are as many and of the kinds that it takes."""
        fixed, (least, most) = len(self.arguments), self.more(parameters)
        must(fixed + least <= len(arguments) <= fixed + most, f"{where} has {len(arguments)} arguments")
        rows = [kind == ROW for kind in self.arguments] + [False] * (len(arguments) - fixed)
        if [type(x) is list for x in arguments] != rows:
            raise Damaged(f"{where} has a row for a number, or a number for a row")
        lengths = [len(x) for x in arguments if type(x) is list]
        must(0 not in lengths, f"{where} has an empty row")
        must(self.formula is not dot or lengths[0] == lengths[1], f"{where} has rows of different lengths")


_NARROW: dict[str, Schema] = {"shift": SHIFT, "width": WIDTH}
OPERATIONS = {
    "dot": Operation(dot, (ROW, ROW), Record(bias_shift=SHIFT, **_NARROW), more=lambda p: (0, 1)),
    "fused": Operation(fused, (NUMBER, NUMBER, NUMBER), Record(**_NARROW)),
    "mix": Operation(
        mix,
        (),
        Record(coefficients=Integers(-LIMIT, LIMIT), **_NARROW),
        more=lambda p: (len(p["coefficients"]), len(p["coefficients"])),
    ),
    "total": Operation(total, (ROW,), Record(plus=WHOLE)),
    "square_sum": Operation(square_sum, (ROW,), Record(plus=WHOLE, **_NARROW)),
    "centred_square_sum": Operation(centred_square_sum, (ROW, NUMBER), Record()),
    "ceiling": Operation(ceiling, (ROW,), Record(shift=SHIFT)),
    "at_least_one": Operation(at_least_one, (NUMBER,), Record()),
    "apply": Operation(apply, (NUMBER,), Record(function=function)),
    "inverse": Operation(inverse, (NUMBER,), Record(function=function, bits=Int(1, 32), root=Int(1, 2)), results=2),
    "rescale": Operation(rescale, (NUMBER, NUMBER, NUMBER), Record(shift=Int(1, 62), width=WIDTH)),
    "one_hot": Operation(one_hot, (NUMBER,), Record(size=Int(1, 4096))),
    "select": Operation(select, (NUMBER, ROW), Record()),
}
ONE_HOT_RESULTS = {("one_hot", 0), ("inverse", 1)}
"""Results of which exactly one bit is one; the rules of these operations prove it."""
ONE_HOT_ARGUMENT = {"rescale": 2, "select": 0}
"""The argument of which the operation needs that."""


def operation(x: Any, where: str) -> tuple[str, dict[str, Any]]:
    """The schema of [name, parameters]."""
    (found, parameters) = Each(lambda each, _: each, 2, 2)(x, where)
    must(type(found) is str and found in OPERATIONS, f"{where}: there is no operation {str(found)[:40]!r}")
    return found, OPERATIONS[found].parameters(parameters, f"{where} {found}")
