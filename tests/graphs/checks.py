"""What is demanded of a graph. A fault that is planted must make one of these fail (test_faults.py)."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._dynamo.backends.registry import lookup_backend
from torch.utils._pytree import tree_leaves, tree_map_only

from tests.graphs.cases import Call


class Graphs:
    """A backend of torch.compile that keeps the graphs, and hands them to another one."""

    def __init__(self, backend: str = "eager"):
        self.found: list[torch.fx.GraphModule] = []
        self.compile = lookup_backend(backend)

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        self.found.append(graph)
        return self.compile(graph, inputs)


def check_one_graph(call: Call, backend: str = "eager") -> None:
    """One graph without a break, no second one for other values, results and gradients of the model itself.

    The backends "eager" and "aot_eager" run the operations that the model runs; of attention of low rank, which is one
    operator in a graph, and of derivatives by decomposed formulas another order of sums may change the last digits.
    """
    graphs = Graphs(backend)
    torch._dynamo.reset()
    compiled = torch.compile(call.module, backend=graphs, fullgraph=True)
    with torch.set_grad_enabled(call.loss):
        for seed in (1, 2, 3):
            found, expected = (run(*copied(call.inputs(seed))) for run in (compiled, call.module))
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
            if call.loss:
                compare_gradients(call, found, expected)
    assert len(graphs.found) == 1, f"{call.name}: {len(graphs.found)} graphs, one for each new value"
    constants = [node.target for node in graphs.found[0].graph.nodes if node.op == "get_attr"]
    assert not constants, f"{call.name}: the graph holds the tensors {constants}"


def compare_gradients(call: Call, found: Tensor, expected: Tensor) -> None:
    """Of all parameters; relative to each one's largest entry, since it is a sum over all images and tokens."""
    parameters = dict(call.module.named_parameters())
    both = [torch.autograd.grad(each, list(parameters.values()), allow_unused=True) for each in (found, expected)]
    for name, gradient, wanted in zip(parameters, *both, strict=True):
        assert (gradient is None) == (wanted is None), name
        if wanted is not None:
            torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


def check_device(call: Call) -> None:
    """Traced on another device than the processor, every tensor of a graph is there, also what the call makes itself.

    `call` is on the device "meta", whose tensors have no numbers; of autocast there torch knows nothing.
    """
    graphs = Graphs()
    torch._dynamo.reset()
    with torch.no_grad(), patch("torch.autocast", _no_autocast):
        torch.compile(call.module, backend=graphs, fullgraph=True)(*call.inputs(1))
    (graph,) = graphs.found
    strangers = {node.name for node in graph.graph.nodes if devices_of(node) - {"meta"}}
    assert not strangers, f"{call.name}: on the processor are {strangers}"


def _no_autocast(device_type: str, **_: Any) -> AbstractContextManager[None]:
    return nullcontext()


def devices_of(node: torch.fx.Node) -> set[str]:
    """The kinds of devices that the values of a node are on."""
    values = tree_leaves(node.meta.get("example_value"))
    return {value.device.type for value in values if isinstance(value, Tensor)}


def check_export(call: Call) -> None:
    """Exported, the program computes the same for other values too, and holds only what the model holds."""
    program = torch.export.export(call.module, copied(call.inputs(1)))
    held = dict(call.module.named_parameters()) | dict(call.module.named_buffers())
    strangers = {*program.state_dict, *program.constants} - held.keys()
    assert not strangers, f"{call.name}: the program holds the constants {strangers}"
    with torch.no_grad():
        found, expected = (run(*copied(call.inputs(2))) for run in (program.module(), call.module))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def copied(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """A key-value cache is written to: who compares needs a copy for each."""
    return tree_map_only(Tensor, lambda x: x.clone(), inputs)
