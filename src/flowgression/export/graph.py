"""One module as an ONNX graph or as a program of torch.export, and how far either is from the module itself."""

import inspect
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.torch_version import TorchVersion

from flowgression.errors import InputError
from flowgression.files import atomic_write

Runner = Callable[[Mapping[str, Tensor]], list[np.ndarray]]
"""Inputs by name -> outputs in order."""
OLDEST_TORCH = "2.8"  # whose exporter works with onnxscript 0.7.2; those of 2.6 and 2.7 do not
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


@dataclass(frozen=True)
class Exported:
    """What an export of a model holds.

    Attributes:
        graphs: by the names of their files.
        states: by its input, the output that a state leaves a call by; it enters the first as zeros.
        facts: what the manifest says besides, values for JSON.
    """

    graphs: Mapping[str, Graph]
    states: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def stable_logsigmoid(x: Tensor) -> Tensor:
    """log(sigmoid(x)) for any x. As Log(Sigmoid(x)), which is what ONNX makes of it, gates below -104 become -inf."""
    return x.clamp(max=0) - torch.log1p(torch.exp(-x.abs()))


def require() -> Any:
    """onnxruntime. Raises InputError that names the extra if anything for export is missing, or torch is too old."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(f"export needs {error.name}: pip install 'flowgression[export]'.") from error
    if TorchVersion(torch.__version__) < OLDEST_TORCH:
        raise InputError(
            f"export to ONNX needs torch {OLDEST_TORCH} or newer, and this is {torch.__version__}, whose exporter does "
            "not work with the onnxscript of today. Update torch, or write --format torch."
        )
    return onnxruntime


def program(graph: Graph) -> Any:
    """The graph as a torch.export.ExportedProgram with a batch of any size."""
    dims = {name: torch.export.Dim(name, min=1, max=4096) for axes in graph.axes().values() for name in axes.values()}
    shapes: tuple[Any, ...] = tuple({axis: dims[name] for axis, name in axes.items()} for axes in graph.axes().values())
    parameters = inspect.signature(graph.module.forward).parameters.values()
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        shapes = (shapes[0], shapes[1:])
    stable = {torch.ops.aten.log_sigmoid_forward.default: lambda x: (stable_logsigmoid(x), x.new_zeros(0))}
    with _quiet():
        found = torch.export.export(
            graph.module.eval(), tuple(graph.inputs.values()), dynamic_shapes=shapes, strict=False
        )
        return found.run_decompositions({**torch.export.default_decompositions(), **stable})


def write_onnx(graph: Graph, path: Path) -> Runner:
    """Write one ONNX file; returns what runs it."""
    names = {"input_names": list(graph.inputs), "output_names": list(graph.outputs)}
    made = program(graph)
    with _quiet():
        exported = torch.onnx.export(made, dynamo=True, external_data=False, verbose=False, **names)  # type: ignore[arg-type]
    assert exported is not None
    with atomic_write(path) as file:
        file.write(exported.model_proto.SerializeToString())
    session = require().InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda given: session.run(None, {name: value.numpy() for name, value in given.items()})


def write_torch(graph: Graph, path: Path) -> Runner:
    """Write one file of torch.export; returns what runs it."""
    content = io.BytesIO()  # torch's own writer ends the process where the disk is full
    with _quiet():
        torch.export.save(program(graph), content)
    with atomic_write(path) as file:
        file.write(content.getbuffer())
    module = torch.export.load(path).module()

    def run(given: Mapping[str, Tensor]) -> list[np.ndarray]:
        found = module(*given.values())
        return [each.detach().numpy() for each in ([found] if isinstance(found, Tensor) else found)]

    return run


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' own warnings, which no user can do anything about, and without gradients."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def largest_difference(graph: Graph, run: Runner, seed: int = 0) -> float:
    """The largest |exported - module| over all outputs and batch sizes of BATCHES; infinite if one is not finite."""
    generator, largest = torch.Generator().manual_seed(seed), 0.0
    for batch in BATCHES:
        given = graph.random_inputs(batch, generator)
        with torch.no_grad():
            expected = graph.module(*given.values())
        for ours, theirs in zip([expected] if isinstance(expected, Tensor) else expected, run(given), strict=True):
            difference = float(np.abs(ours.numpy() - theirs).max())
            largest = max(largest, difference) if np.isfinite(difference) else float("inf")
    return largest
