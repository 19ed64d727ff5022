"""One module as an ONNX graph, and how far it is from PyTorch."""

import inspect
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowgression.errors import InputError
from flowgression.export.velocity import stable_logsigmoid
from flowgression.files import atomic_write

BATCHES = (1, 7)
"""Batch sizes that every graph is compared at."""


@dataclass(frozen=True)
class Graph:
    """A module, example inputs by name with batch 2, names of the outputs, and inputs whose axes besides 0 may vary.

    fixed: inputs without a batch axis.
    varying: {input: {axis: name}} besides the batch.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: Sequence[str]
    fixed: frozenset[str] = frozenset()
    varying: Mapping[str, Mapping[int, str]] | None = None

    def axes(self) -> dict[str, dict[int, str]]:
        """Names of the axes that vary, by input."""
        found = {name: {} if name in self.fixed else {0: "batch"} for name in self.inputs}
        for name, axes in (self.varying or {}).items():
            found[name] |= axes
        return found

    def random_inputs(self, batch: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Other inputs like the examples: `batch` rows, drawn from the examples' rows, numbers shuffled."""
        found = {}
        for name, example in self.inputs.items():
            if name in self.fixed:
                found[name] = example
                continue
            rows = example[torch.randint(len(example), (batch,), generator=generator)]
            found[name] = rows + torch.randn(rows.shape, generator=generator) if rows.ndim > 1 else rows
        return found


def require() -> Any:
    """onnxruntime. Raises InputError that names the extra if anything for export is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(f"export needs {error.name}: pip install 'flowgression[export]'.") from error
    return onnxruntime


def write(graph: Graph, path: Path) -> None:
    """Exports the graph to one file."""
    dims = {name: torch.export.Dim(name, min=1, max=4096) for axes in graph.axes().values() for name in axes.values()}
    shapes: tuple[Any, ...] = tuple({axis: dims[name] for axis, name in axes.items()} for axes in graph.axes().values())
    parameters = inspect.signature(graph.module.forward).parameters.values()
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        shapes = (shapes[0], shapes[1:])
    stable = {torch.ops.aten.log_sigmoid_forward.default: lambda x: (stable_logsigmoid(x), x.new_zeros(0))}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            graph.module.eval(), tuple(graph.inputs.values()), dynamic_shapes=shapes, strict=False
        )
        program = program.run_decompositions({**torch.export.default_decompositions(), **stable})
        exported = torch.onnx.export(
            program,
            dynamo=True,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            external_data=False,
            verbose=False,
        )
    assert exported is not None
    with atomic_write(path) as file:
        file.write(exported.model_proto.SerializeToString())


def largest_difference(graph: Graph, path: Path, seed: int = 0) -> float:
    """The largest |onnxruntime - PyTorch| over all outputs, at the batch sizes of BATCHES."""
    session = require().InferenceSession(path, providers=["CPUExecutionProvider"])
    generator, largest = torch.Generator().manual_seed(seed), 0.0
    for batch in BATCHES:
        given = graph.random_inputs(batch, generator)
        with torch.no_grad():
            expected = graph.module(*given.values())
        found = session.run(None, {name: value.numpy() for name, value in given.items()})
        for ours, theirs in zip([expected] if isinstance(expected, Tensor) else expected, found, strict=True):
            largest = max(largest, float(np.abs(ours.numpy() - theirs).max()))
    return largest
