"""Models: what is claimed, as steps of the operations of meaning.py.

A model is a list of values. First come its inputs, element by element, then in turn a constant, the results of an
operation on earlier values, or a fresh argument, which stands for any value that an earlier one can have. `evaluate`
gives its outputs on Python integers, which never overflow; `Numbering` gives every value a tag, equal for equal
expressions. A circuit is proved right if its outputs carry the model's tags.

Needs the standard library alone.
"""

import hashlib
import json
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from flowgression.circuits.proof.meaning import LONGEST, OPERATIONS, WHOLE, operation
from flowgression.circuits.proof.schema import (
    Each,
    Int,
    Items,
    Record,
    anything,
    boolean,
    distinct,
    must,
    name,
    need,
    text,
)

SIDES = Each(Int(1, 1 << 22), 0, 8)
ELEMENTS = 1 << 18
"""Of all inputs, and of all outputs."""
FRESH = "fresh"
"""The circuit's last input port where there are fresh arguments: single bits."""


class Input(NamedTuple):
    """A tensor of numbers of `width` bits, element by element; two's complement if signed."""

    name: str
    shape: tuple[int, ...]
    width: int
    signed: bool

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.name} {list(self.shape)}, {self.width} bits{' signed' if self.signed else ''}"


class Fresh(NamedTuple):
    """A fresh argument: an earlier value, or its tag; the interval in which it lies; whether it is a power of two."""

    like: int
    lo: int
    hi: int
    one_hot: bool


class Model(NamedTuple):
    """name: what it is, in words; operations: (name, parameters); steps: an integer for a constant, a Fresh, or
    [number of operation, *arguments].

    Arguments are numbers of values or lists of them; outputs: (name, shape, numbers of values).
    """

    name: dict[str, str]
    inputs: list[Input]
    operations: list[tuple[str, dict[str, Any]]]
    steps: list[Any]
    outputs: list[tuple[str, tuple[int, ...], list[int]]]
    digest: str

    @property
    def fresh(self) -> list[Fresh]:
        return [step for step in self.steps if type(step) is Fresh]


_VALUE = Int(0, 1 << 40)
_MODEL = Record(
    name=Record(family=text, sizes=text, weights=text, formats=text),
    inputs=Each(Items(name, SIDES, Int(1, 62), boolean)),
    operations=Each(operation, 0),
    steps=Each(anything, 0),
    outputs=Each(Items(name, SIDES, Each(_VALUE))),
)
_FRESH = Record(like=_VALUE, lo=Int(-LONGEST, LONGEST), hi=Int(-LONGEST, LONGEST), one_hot=boolean)


def digest_of(model: Any) -> str:
    """The SHA-256 of a claim, as JSON in one way of writing."""
    return hashlib.sha256(json.dumps(model, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_model(data: Any) -> Model:
    """The model of a certificate. Raises Damaged where it is not one."""
    found = _MODEL(data, "model")
    inputs = [Input(each[0], tuple(each[1]), each[2], each[3]) for each in found["inputs"]]
    outputs = [(each[0], tuple(each[1]), each[2]) for each in found["outputs"]]
    distinct([each.name for each in inputs], "the model's inputs")
    distinct([each[0] for each in outputs], "the model's outputs")
    count = sum(each.size for each in inputs)
    must(max(count, sum(len(each[2]) for each in outputs)) <= ELEMENTS, f"the model has more than {ELEMENTS} elements")
    steps = []
    for number, step in enumerate(found["steps"]):
        where = f"step {number} of the model"
        steps.append(_read_step(step, found["operations"], count, where))
        count += OPERATIONS[found["operations"][step[0]][0]].results if type(step) is list else 1
    for label, shape, values in outputs:
        must(len(values) == math.prod(shape), f"the model's output {label} has other than one value for each element")
        must(max(values) < count, f"the model's output {label} is no value")
    return Model(found["name"], inputs, found["operations"], steps, outputs, digest_of(data))


def _read_step(step: Any, operations: Sequence[Any], count: int, where: str) -> Any:
    """`count` values come before it."""
    if type(step) is dict:
        found = _FRESH(step, where)
        must(found["like"] < count and found["lo"] < found["hi"], f"{where} is like no number")
        return Fresh(**found)
    if type(step) is not list:
        return WHOLE(step, where)
    must(len(step) > 0 and type(step[0]) is int and 0 <= step[0] < len(operations), f"{where} has no operation")
    values = list(leaves(step[1:])) if all(type(x) is not list or set(map(type, x)) == {int} for x in step[1:]) else []
    must(bool(values) and set(map(type, values)) == {int}, f"{where} has an argument that is no value")
    must(min(values) >= 0 and max(values) < count, f"{where} reads a value that does not come before it")
    label, parameters = operations[step[0]]
    OPERATIONS[label].check(parameters, step[1:], where)
    return step


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


def evaluate(model: Model, inputs: Mapping[str, Sequence[int]], fresh: Sequence[int] = ()) -> dict[str, list[int]]:
    """Outputs of the model on one sample: {name: flat list of integers} -> the same. `fresh`: the fresh arguments."""
    values: list[int] = [int(v) for each in model.inputs for v in inputs[each.name]]
    given = iter(fresh)
    for step in model.steps:
        if type(step) is not list:
            values.append(next(given) if type(step) is Fresh else step)
            continue
        label, parameters = model.operations[step[0]]
        result = OPERATIONS[label].formula(*arrange(step[1:], lambda k: values[k]), **parameters)
        values.extend(result if OPERATIONS[label].results > 1 else [result])
    return {label: [values[k] for k in numbers] for label, _, numbers in model.outputs}


class Numbering:
    """Tags of expressions: two expressions have the same tag only if they are the same, or both equal one constant."""

    def __init__(self) -> None:
        self._tags: dict[Hashable, int] = {}
        self._operations: dict[str, int] = {}
        self._constant: dict[int, int] = {}
        self._value: dict[int, int] = {}

    def _tag(self, expression: Hashable) -> int:
        tag = self._tags.setdefault(expression, len(self._tags))
        return self._constant.get(tag, tag)

    def constant(self, value: int) -> int:
        tag = self._tag(("constant", value))
        self._value[tag] = value
        return tag

    def input(self, k: int) -> int:
        return self._tag(("input", k))

    def fresh(self, k: int) -> int:
        return self._tag(("fresh", k))

    def operation(self, label: str, parameters: Mapping[str, Any]) -> int:
        """A number for an operation with its parameters."""
        words = json.dumps([label, parameters], sort_keys=True)
        return self._operations.setdefault(words, len(self._operations))

    def result(self, operation: int, arguments: Hashable, k: int = 0) -> int:
        """Result k of an operation on tags."""
        return self._tag((operation, arguments, k))

    def equal_constant(self, tag: int, value: int) -> None:
        """From now on this expression counts as the constant it was proved to be."""
        need(self._value.get(tag, value) == value, "an expression equals two constants")
        self._constant[tag] = self.constant(value)

    def outputs(self, model: Model) -> tuple[dict[str, list[int]], list[Fresh]]:
        """Tags of the model's outputs, and its fresh arguments with the tags of what they are like."""
        tags = [self.input(k) for k in range(sum(each.size for each in model.inputs))]
        operations = [self.operation(*each) for each in model.operations]
        fresh: list[Fresh] = []
        for step in model.steps:
            if type(step) is list:
                arguments = arrange(step[1:], lambda k: tags[k])
                results = OPERATIONS[model.operations[step[0]][0]].results
                tags.extend([self.result(operations[step[0]], arguments, k) for k in range(results)])
            elif type(step) is Fresh:
                fresh.append(step._replace(like=tags[step.like]))
                tags.append(self.fresh(len(fresh) - 1))
            else:
                tags.append(self.constant(step))
        return {label: [tags[k] for k in numbers] for label, _, numbers in model.outputs}, fresh
