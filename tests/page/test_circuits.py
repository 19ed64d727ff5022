"""The circuits that the page ships: those of the package, and evaluated by the page as by the package."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from flowgression.circuits import Circuit
from tests.circuits.sparse import evaluate_scipy
from tests.page.nodejs import PAGE, needs_node, run_module
from tests.scripts import load_script


@pytest.fixture(scope="module")
def tool() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield load_script("tools/page_data.py", monkeypatch)


@pytest.fixture(scope="module")
def circuits(tool: Any) -> dict[str, Circuit]:
    return tool.circuits()


def test_the_shipped_file_is_what_the_package_builds(tool: Any, circuits: dict[str, Circuit]) -> None:
    shipped = json.loads((PAGE / "data" / "circuits.json").read_text())
    assert shipped == {name: tool.as_json(circuit) for name, circuit in circuits.items()}


def test_the_adder_adds_and_the_product_multiplies(circuits: dict[str, Circuit]) -> None:
    values = np.random.default_rng(0).integers(0, 8, (64, 5))
    adder, product = circuits["adder"], circuits["product"]
    found = adder.decode_outputs(evaluate_scipy(adder, adder.encode_inputs(x=values)))["y"]
    np.testing.assert_array_equal(found, values.sum(1))
    found = product.decode_outputs(evaluate_scipy(product, product.encode_inputs(x=values[:, :2])))["y"]
    np.testing.assert_array_equal(found, values[:, 0] * values[:, 1])


@needs_node
def test_the_page_evaluates_as_the_package(circuits: dict[str, Circuit]) -> None:
    generator = np.random.default_rng(1)
    for name, circuit in circuits.items():
        inputs = generator.random((40, circuit.num_inputs)) < 0.5
        expected = circuit.decode_outputs(evaluate_scipy(circuit, inputs))["y"].reshape(len(inputs), -1)
        found = run_module(
            """const { evaluate, results } = await load('circuit/circuit.js');
            const fs = await import('node:fs');
            const circuit = JSON.parse(fs.readFileSync(given.file, 'utf8'))[given.name];
            return given.inputs.map((bits) => results(circuit, evaluate(circuit, bits)).map((each) => each.value));""",
            {"file": str(PAGE / "data" / "circuits.json"), "name": name, "inputs": inputs.astype(int).tolist()},
        )
        np.testing.assert_array_equal(found, expected)
