"""Faults of the kinds that graphs have, planted one by one: each makes a check of this folder fail."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from tests.graphs.cases import GRAPH_CASES, calls
from tests.graphs.checks import check_device, check_one_graph
from tests.simulated_gpu.faults import Fault, argument, cpu, inject, result, then


def counting(right: Callable[..., Any]) -> Callable[..., Any]:
    """A method that multiplies its input by a number which changes with every call."""

    def wrong(self: Any, x: torch.Tensor, *given: Any, **named: Any) -> Any:
        self.calls = 2 * getattr(self, "calls", 0.5)
        return right(self, x * self.calls, *given, **named)

    return wrong


FAULTS = {
    "a value read": Fault(
        "graph", "sit", "layers.embeddings:sinusoidal_features", then(lambda x: 0 if x.sum() > 0 else 1)
    ),
    "a float that changes": Fault("graph", "sit", "families.sit.model:SiT.forward", counting),
    "a tensor of the processor": Fault("device", "sit", "layers.embeddings:sinusoidal_features", result(cpu)),
    "noise on the processor": Fault("device", "sit", "flow.sequence:noise_at", argument(1, cpu)),
    "a number made on the processor": Fault(
        "device", "sit", "layers.modulation:modulate", result(lambda x: x + torch.tensor(0.5))
    ),
}


def test_planted_faults_are_found() -> None:
    missed = []
    for name, fault in FAULTS.items():
        device, check = ("meta", check_device) if fault.check == "device" else ("cpu", check_one_graph)
        with pytest.MonkeyPatch.context() as monkeypatch:
            inject(monkeypatch, fault)
            try:
                check(calls(GRAPH_CASES[fault.model], device)[0])
                missed.append(name)
            except (AssertionError, TorchDynamoException):
                torch._dynamo.reset()
    assert not missed
