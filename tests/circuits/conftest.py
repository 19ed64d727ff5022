"""One helper for all arithmetic tests: build a function of Numbers, evaluate it, compare with Python integers."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from flowgression.circuits import Circuit, evaluate
from flowgression.circuits.arithmetic.number import Number, input_tensor, output_port
from flowgression.circuits.builder import Builder
from tests.circuits.sparse import evaluate_scipy

Width = tuple[int, bool]


@pytest.fixture
def check() -> Callable[..., Circuit]:
    def run(
        function: Callable[..., Number | list[Number]],
        widths: Sequence[Width],
        reference: Callable[..., int | list[int]],
        samples: Sequence[Sequence[int]] | int = 300,
        depth: int | None = None,
    ) -> Circuit:
        """`function(builder, *numbers)` against `reference(*integers)`; samples "None" means every input. Also
        SciPy, and counting.
        """
        builder = Builder()
        pairs = [input_tensor(builder, f"x{i}", (), w, signed) for i, (w, signed) in enumerate(widths)]
        result = function(builder, *(tensor.item() for tensor, _ in pairs))
        numbers = np.empty(len(result) if type(result) is list else 1, dtype=object)
        for k, number in enumerate(result if type(result) is list else [result]):
            numbers[k] = number
        bits, port = output_port("y", numbers)
        circuit = builder.finish(bits, [p for _, p in pairs], [port])
        ranges = [range(-(1 << (w - 1)), 1 << (w - 1)) if signed else range(1 << w) for w, signed in widths]
        if samples == 0:
            points = np.array(np.meshgrid(*ranges, indexing="ij")).reshape(len(ranges), -1).T
        elif isinstance(samples, int):
            generator = np.random.default_rng(0)
            points = np.stack([generator.integers(r.start, r.stop, samples) for r in ranges], axis=1)
        else:
            points = np.array(samples)
        encoded = circuit.encode_inputs(**{f"x{i}": points[:, i] for i in range(len(widths))})
        outputs = evaluate(circuit, encoded)
        few = encoded[:40]
        np.testing.assert_array_equal(outputs[:40], evaluate_scipy(circuit, few))
        expected = np.array([np.atleast_1d(reference(*map(int, point))) for point in points])
        np.testing.assert_array_equal(circuit.decode_outputs(outputs)["y"], expected)
        assert circuit.statistics() == builder.statistics()
        if depth is not None:
            assert circuit.statistics().depth <= depth
        return circuit

    return run
