"""Faults of the kinds that graphs have, planted one by one: each makes a check of this folder fail."""

import pytest
from torch._dynamo.exc import TorchDynamoException

from tests.graphs.cases import GRAPH_CASES, calls
from tests.graphs.checks import check_device, check_one_graph
from tests.simulated_gpu.test_faults import Fault, inject

_COUNT = "self._check_images(x, 'B'); self.calls = 2 * getattr(self, 'calls', 0.5); x = x * self.calls"
FAULTS = {
    "a value read": Fault(
        "graph", "sit", "layers.embeddings:sinusoidal_features", "half = size", "float(t.sum()); half = size"
    ),
    "a float that changes": Fault(
        "graph", "sit", "families.sit.model:SiT.forward", 'self._check_images(x, "B")', _COUNT
    ),
    "a tensor of the processor": Fault(
        "device", "sit", "layers.embeddings:sinusoidal_features", ", device=t.device", ""
    ),
    "noise on the processor": Fault("device", "sit", "flow.sequence:noise_at", "x1, x0, t)", "x1, x0.cpu(), t)"),
    "a number made on the processor": Fault(
        "device", "sit", "layers.modulation:modulate", "(x, factor", "(x + torch.tensor(0.5), factor"
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = FAULTS[name]
    inject(monkeypatch, fault)
    device, check = ("meta", check_device) if fault.check == "device" else ("cpu", check_one_graph)
    with pytest.raises((AssertionError, TorchDynamoException)):
        check(calls(GRAPH_CASES[fault.model], device)[0])
