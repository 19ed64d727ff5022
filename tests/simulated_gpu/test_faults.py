"""Faults of the kinds that code for a GPU has, planted one by one: each makes a check of this folder fail."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.simulated_gpu.checks import check_precision, check_sampling, check_training
from tests.simulated_gpu.device import DeviceMismatch, SimulatedGpu
from tests.simulated_gpu.faults import Fault, argument, attribute, copied, cpu, during, inject, made, result, then

ON_PROCESSOR = {
    "noise": Fault("training", "sit", "flow.sequence:noise_at", argument(1, cpu)),
    "table of angles": Fault("training", "flowar", "layers.rotary:ScaleRotary.forward", attribute("cos", cpu)),
    "frequencies": Fault("training", "sit", "layers.embeddings:sinusoidal_features", result(cpu)),
    "positions": Fault(
        "training", "sit", "families.dit.model:DiffusionTransformer._velocity", attribute("pos_embed", cpu)
    ),
    "causal mask": Fault("training", "arflow", "ops.hybrid_linear.chunk:_decay_between", result(cpu)),
    "generator": Fault(
        "training",
        "sit",
        "training.randomness:StepRandomness.__init__",
        made("generator", lambda _: torch.Generator().manual_seed(0)),
    ),
    "EMA weights": Fault(
        "training",
        "sit",
        "training.ema:Ema.update",
        attribute("_pairs", lambda pairs: [(cpu(average), weight) for average, weight in pairs]),
    ),
    "key-value cache": Fault(
        "sampling",
        "flowar",
        "layers.softmax_attention:CachingKeys.new_state",
        argument(4, lambda device: torch.device("cpu")),
    ),
    "times of FlowAR": Fault(
        "sampling", "flowar", "sampling.prepared:PreparedTimes.__init__", during(Tensor, "to", device=None)
    ),
    "times of SiT": Fault(
        "sampling", "sit", "sampling.prepared:PreparedTimes.__init__", during(Tensor, "to", device=None)
    ),
    "rows of ARFlow": Fault(
        "sampling", "arflow", "sampling.common:guided_velocity", during(torch, "tensor", device=None)
    ),
}
WAITS = {
    "lengths as a tensor": Fault("training", "flowar", "families.flowar.flow_head:FlowHead.forward", then(copied)),
    "weight as a tensor": Fault("training", "flowar", "families.flowar.training:flowar_losses", then(copied)),
    "check of times": Fault("training", "sit", "flow.sequence:noise_at", then(lambda x: bool((x < 0).any()))),
    "loss read": Fault("training", "sit", "training.step:accumulate_gradients", then(Tensor.item)),
    "stop as a tensor": Fault("training", "sit", "training.step:accumulate_gradients", then(copied)),
    "blocking batches": Fault(
        "training", "sit", "data.loader:_Loader.__iter__", during(Tensor, "to", non_blocking=False)
    ),
    "average read": Fault(
        "training",
        "sit",
        "training.ema:Ema.update",
        lambda right: lambda self, updates: (right(self, updates), self._pairs[0][0].sum().item()),
    ),
    "norm read": Fault("training", "sit", "training.optimizer:clip_gradients", then(float)),
    "labels by mask": Fault("training", "sit", "training.objectives:drop_labels", then(lambda x: x[x > 0])),
    "synchronised": Fault(
        "training", "sit", "training.step:accumulate_gradients", then(lambda x: torch.cuda.synchronize())
    ),
    "step checked": Fault("sampling", "sit", "flow.solvers.base:fitted", then(lambda x: bool((x == x).all()))),
    "scale as a tensor": Fault("sampling", "sit", "flow.guidance:Guidance._mixed", then(copied)),
    "blocking noise": Fault("sde", "sit", "sampling.noise:noise_like", during(Tensor, "to", non_blocking=False)),
    "pageable noise": Fault("sde", "sit", "sampling.noise:noise_like", during(torch, "empty", pin_memory=False)),
}
# More kernels than before; six, since torch 2.6 starts up to 10 % fewer than the version of the listed numbers.
MORE_KERNELS = {
    "additions": Fault("training", "sit", "layers.modulation:modulate", result(lambda x: x + 0 * x + 0 * x + 0 * x))
}
HALF_PRECISION = {
    "state": Fault(
        "precision",
        "arflow",
        "ops.hybrid_linear.chunk:hybrid_attention_chunk",
        during(torch, "autocast", enabled=True),
    ),
    "decay": Fault(
        "precision", "arflow", "ops.hybrid_linear.kinds:accumulation_dtype", lambda right: lambda x: x.dtype
    ),
    "residual of DiT": Fault("precision", "sit", "layers.weights:compute_dtype", result(lambda dtype: torch.bfloat16)),
    "residual of the head": Fault(
        "precision", "flowar", "layers.weights:compute_dtype", result(lambda dtype: torch.bfloat16)
    ),
    "block": Fault("precision", "sit", "layers.adaln_zero:AdaLNZeroBlock.forward", argument(1, lambda x: x.bfloat16())),
}
KINDS = {
    "tensors of the processor": ON_PROCESSOR,
    "waits": WAITS,
    "more kernels": MORE_KERNELS,
    "half precision": HALF_PRECISION,
}


@pytest.mark.parametrize("kind", KINDS)
def test_planted_faults_are_found(gpu: SimulatedGpu, kind: str, tmp_path: Path) -> None:
    missed = []
    for name, fault in KINDS[kind].items():
        with pytest.MonkeyPatch.context() as monkeypatch:
            inject(monkeypatch, fault)
            try:
                _check(gpu, fault, tmp_path / name)
                missed.append(name)
            except (AssertionError, DeviceMismatch):
                gpu.reset()
    assert not missed


def _check(gpu: SimulatedGpu, fault: Fault, folder: Path) -> None:
    if fault.check == "training":
        check_training(gpu, fault.model, folder)
    elif fault.check == "precision":
        check_precision(gpu, fault.model)
    else:
        check_sampling(gpu, fault.model, "sde" if fault.check == "sde" else "euler")
