"""Uniformity: a gate described from its address alone is the gate of the materialised circuit."""

import bisect

import numpy as np
import pytest

from flowgression.circuits.address import INPUT, Address, AddressBook
from flowgression.circuits.compile import Precision, build, trace
from flowgression.circuits.programs import flowar_program, layer_program
from flowgression.circuits.spec import random_spec

TINY = {"width": 2, "flow_width": 2, "decoder_depth": 0, "num_classes": 3}


@pytest.mark.parametrize("name", ["attention", "layer-norm", "feed-forward"])
def test_random_gates_of_a_layer(name):
    compare(layer_program(name, n=2, width=2), Precision(6), samples=400)


@pytest.mark.slow
def test_random_gates_of_a_model():
    compare(flowar_program(random_spec(0, scales=(1, 2), **TINY)), Precision(6), samples=2000)


def compare(program, precision, samples):
    circuit = build(program, precision)
    book = AddressBook()
    trace(program, precision, book)
    assert len(book.calls) > book.num_forms
    offsets = book.offsets()

    def number(address: Address) -> int:
        return address.gate if address.call == INPUT else circuit.num_inputs + offsets[address.call] + address.gate

    last = offsets[-1] + book.calls[-1].form.statistics().gates
    assert last <= circuit.num_gates  # beyond are gates that negate outputs
    for gate in np.random.default_rng(0).choice(last, size=samples, replace=False):
        call = bisect.bisect_right(offsets, gate) - 1
        described = book.describe(Address(call, int(gate) - offsets[call]))
        nodes, weights = circuit.row_of(gate)
        assert described.theta == circuit.theta[gate]
        assert {number(a): w for a, w in described.inputs} == dict(zip(nodes.tolist(), weights.tolist(), strict=True))
