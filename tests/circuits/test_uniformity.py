"""Addresses: a gate described from its address and the table of calls is the gate of the materialised circuit."""

import dataclasses

import numpy as np
import pytest

from flowgression.circuits import build, flowar_program, layer_program, random_spec
from flowgression.circuits.checks import check_addresses
from flowgression.circuits.compile import Precision, trace
from flowgression.circuits.uniformity import AddressBook

TINY = {"width": 2, "flow_width": 2, "decoder_depth": 0, "num_classes": 3}


@pytest.mark.parametrize("name", ["attention", "layer-norm", "feed-forward"])
def test_random_gates_of_a_layer(name):
    assert check_addresses(layer_program(name, n=2, width=2), Precision(6), samples=400).holds


@pytest.mark.slow
def test_random_gates_of_a_model():
    program = flowar_program(random_spec(0, scales=(1, 2), **TINY))
    assert check_addresses(program, Precision(6), samples=2000).holds


def test_addresses_number_every_gate_once_and_notice_a_changed_one():
    program, precision = layer_program("rms-norm", n=2, width=2), Precision(5)
    circuit, book = build(program, precision), AddressBook()
    trace(program, precision, book)
    assert len(book.calls) > book.num_forms
    assert circuit.num_gates - circuit.output_ports[0].num_bits <= book.num_gates <= circuit.num_gates
    assert len({book.address_of(gate) for gate in range(book.num_gates)}) == book.num_gates
    assert all(book.agrees(circuit, gate) for gate in range(book.num_gates))
    changed = dataclasses.replace(circuit, theta=circuit.theta + (np.arange(circuit.num_gates) == 7))
    assert [g for g in range(book.num_gates) if not book.agrees(changed, g)] == [7]


def test_a_node_that_is_read_twice_is_noticed():
    """The last of two entries is the described one, but the gate adds both."""
    program, precision = layer_program("rms-norm", n=2, width=2), Precision(5)
    circuit, book = build(program, precision), AddressBook()
    trace(program, precision, book)
    assert book.agrees(circuit, 7)
    row_of = circuit.row_of

    class Doubled:
        theta, num_inputs = circuit.theta, circuit.num_inputs

        @staticmethod
        def row_of(gate):
            nodes, weights = row_of(gate)
            return np.concatenate([nodes[:1], nodes]), np.concatenate([weights[:1], weights])

    assert not book.agrees(Doubled, 7)
