"""Addresses of gates: a gate's type and inputs follow from its own cell and the table of calls, without other gates.

This is not uniformity, which is open: the table is made by running the whole program, not computed from an address.

An address is (call, gate): the number of a cell's call and the gate's place inside that cell. A call is known by its
cell's form (operation, constants, intervals, shared bits) and by the addresses of the bits it reads; it holds no
gates. The same model source runs on an AddressBook as on a Builder, and each form is built once, alone, on inputs of
its own.
"""

from bisect import bisect_right
from collections.abc import Callable, Hashable
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

from flowgression.circuits.builder import Bit, Builder, canonical_form, map_bits
from flowgression.circuits.ir import Circuit

INPUT = -1
"""The call number of circuit inputs: (INPUT, i) is input bit i."""


class Address(NamedTuple):
    """Gate number `gate` of call number `call`; call INPUT for inputs."""

    call: int
    gate: int


class Gate(NamedTuple):
    """[sum weight * input >= theta] with inputs by address."""

    theta: int
    inputs: tuple[tuple[Address, int], ...]


class Call(NamedTuple):
    """One use of a cell: its form as a circuit of its own, and the addresses its inputs stand for."""

    operation: Hashable
    form: Builder
    outputs: Any
    inputs: tuple[Address, ...]


class AddressBook(Builder):
    """A builder that records calls instead of gates. Nodes of its bits are Addresses. Run a program on it with
    `compile.trace`.
    """

    form_builder: Callable[..., Builder] = Builder
    """Makes the builder of a cell that stands alone."""

    def __init__(self) -> None:
        super().__init__(materialise=False)
        self.calls: list[Call] = []
        self._forms: dict[Hashable, tuple[Builder, Any]] = {}

    def inputs(self, count: int, level: int = 0) -> list[Bit]:
        first = self.num_inputs
        self.num_inputs += count
        return [Bit(0, (Address(INPUT, i),), (1,)) for i in range(first, first + count)]  # type: ignore[arg-type]

    def call(self, key: Hashable, cell: Callable[..., Any], *arguments: Any) -> Any:
        shape, nodes = canonical_form(arguments)
        if (key, shape) not in self._forms:
            self._forms[key, shape] = self._build_alone(cell, arguments, nodes)
        form, outputs = self._forms[key, shape]
        number = len(self.calls)
        self.calls.append(Call(key, form, outputs, tuple(nodes)))  # type: ignore[arg-type]

        def name(bit: Bit) -> Bit:
            found = [nodes[n] if n < len(nodes) else Address(number, n - len(nodes)) for n in bit.nodes]
            return bit._replace(nodes=tuple(found))  # type: ignore[arg-type]

        return map_bits(outputs, name)

    def _build_alone(self, cell: Callable[..., Any], arguments: Any, nodes: list[int]) -> tuple[Builder, Any]:
        """The cell as a circuit of its own, with one input for each node that it reads."""
        local = {node: k for k, node in enumerate(nodes)}
        builder = self.form_builder(templates=False)
        builder.inputs(len(nodes))
        own = map_bits(list(arguments), lambda bit: bit._replace(nodes=tuple(local[n] for n in bit.nodes)))
        return builder, cell(builder, *own)

    def describe(self, address: Address) -> Gate:
        """Type and inputs of one gate, from its own cell alone."""
        _, form, _, inputs = self.calls[address.call]
        theta, row = form.gate(address.gate)
        named = [
            (inputs[n] if n < len(inputs) else Address(address.call, n - len(inputs)), weight) for n, weight in row
        ]
        return Gate(theta, tuple(named))

    @property
    def num_forms(self) -> int:
        """Distinct cells, all that was ever built."""
        return len(self._forms)

    @cached_property
    def offsets(self) -> list[int]:
        """The number that each call's first gate has in the materialised circuit, and their total at the end."""
        return list(accumulate((call.form.statistics().gates for call in self.calls), initial=0))

    @property
    def num_gates(self) -> int:
        """Gates of all calls: the materialised circuit's, but for those that only negate outputs."""
        return self.offsets[-1]

    def address_of(self, gate: int) -> Address:
        """The address of a gate by its number in the materialised circuit."""
        call = bisect_right(self.offsets, gate) - 1
        return Address(call, gate - self.offsets[call])

    def agrees(self, circuit: Circuit, gate: int) -> bool:
        """Whether the description of a gate from its address is that gate of the materialised circuit: threshold,
        inputs and weights.
        """
        theta, inputs = self.describe(self.address_of(gate))

        def node(address: Address) -> int:
            call, place = address
            return place if call == INPUT else circuit.num_inputs + self.offsets[call] + place

        described = sorted((node(address), weight) for address, weight in inputs)  # a node read twice counts twice
        nodes, weights = circuit.row_of(gate)
        return theta == circuit.theta[gate] and described == sorted(zip(nodes.tolist(), weights.tolist(), strict=True))
