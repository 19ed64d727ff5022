"""Faults of the kinds that code for a GPU has, injected one by one: each makes a check of this folder fail."""

import importlib
import inspect
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.simulated_gpu.checks import check_precision, check_sampling, check_training
from tests.simulated_gpu.device import DeviceMismatch, SimulatedGpu


class Fault(NamedTuple):
    """In the source of `function`, "package.module:name" of flowgression, the text `old` becomes `new`."""

    check: str
    model: str
    function: str
    old: str
    new: str


_TIMES = "time.repeat_interleave(torch.tensor(lengths, device=x.device), dim=1, output_size=sum(lengths))"
_DEVICE = "times.to(device=device, ", "times.to("
_CLIP = "(config.clip_norm / (norm + 1e-6)).clamp(max=1.0)"
_WEIGHT = "torch.tensor(sum(lengths) / lengths[-1], device=t.device)"
FAULTS = {
    # Tensors of the processor among those of the device.
    "noise on the processor": Fault("training", "sit", "flow.sequence:noise_at", "x1, x0, t)", "x1, x0.cpu(), t)"),
    "table of angles": Fault("training", "flowar", "layers.rotary:ScaleRotary.forward", "self.cos[", "self.cos.cpu()["),
    "frequencies": Fault("training", "sit", "layers.embeddings:sinusoidal_features", ", device=t.device", ""),
    "positions": Fault(
        "training", "sit", "families.dit.model:DiffusionTransformer._velocity", "self.pos_embed", "self.pos_embed.cpu()"
    ),
    "causal mask": Fault("training", "arflow", "ops.hybrid_linear.chunk:_decay_between", ", device=reach.device", ""),
    "generator": Fault(
        "training", "sit", "training.randomness:StepRandomness.__init__", "Generator(device)", "Generator()"
    ),
    "EMA weights": Fault("training", "sit", "training.ema:Ema.__init__", "deepcopy(model)", "deepcopy(model).cpu()"),
    "key-value cache": Fault("sampling", "flowar", "layers.softmax_attention:CachingKeys.new_state", ", device)", ")"),
    "times of FlowAR": Fault("sampling", "flowar", "sampling.prepared:PreparedTimes.__init__", *_DEVICE),
    "times of SiT": Fault("sampling", "sit", "sampling.prepared:PreparedTimes.__init__", *_DEVICE),
    "rows of ARFlow": Fault("sampling", "arflow", "sampling.common:guided_velocity", ", device=device)", ")"),
    # The host waits for the device.
    "lengths as a tensor": Fault(
        "training", "flowar", "families.flowar.flow_head:FlowHead.forward", "per_token(time, lengths)", _TIMES
    ),
    "weight as a tensor": Fault(
        "training", "flowar", "families.flowar.training:flowar_losses", "(sum(lengths) / lengths[-1])", _WEIGHT
    ),
    "check of times": Fault(
        "training", "sit", "flow.sequence:noise_at", "return ", "assert not bool((t < 0).any()); return "
    ),
    "loss read": Fault(
        "training",
        "sit",
        "training.step:accumulate_gradients",
        "output.loss / parts",
        "output.loss / parts; loss.item()",
    ),
    "stop as a tensor": Fault(
        "training",
        "sit",
        "training.step:training_step",
        "torch.full((), float(stop), device=trainer.device)",
        "torch.tensor(float(stop))",
    ),
    "blocking batches": Fault(
        "training", "sit", "data.loader:_Loader.__iter__", "non_blocking=True", "non_blocking=False"
    ),
    "norm read": Fault("training", "sit", "training.optimizer:clip_gradients", _CLIP, f"float({_CLIP})"),
    "labels by mask": Fault(
        "training", "sit", "training.objectives:drop_labels", "return ", "class_labels[dropped]; return "
    ),
    "synchronised": Fault(
        "training",
        "sit",
        "training.step:accumulate_gradients",
        "loss.backward()",
        "loss.backward(); torch.cuda.synchronize()",
    ),
    "step checked": Fault(
        "sampling",
        "sit",
        "flow.solvers.base:fitted",
        "return d",
        "assert bool((derivative == derivative).all()); return d",
    ),
    "scale as a tensor": Fault(
        "sampling",
        "sit",
        "flow.guidance:Guidance._mixed",
        "v_cond, weights[0])",
        "v_cond, torch.tensor(weights[0], device=v_cond.device))",
    ),
    "blocking noise": Fault("sde", "sit", "sampling.noise:noise_like", "non_blocking=True", "non_blocking=False"),
    "pageable noise": Fault("sde", "sit", "sampling.noise:noise_like", 'target.type == "cuda"', "False"),
    # More kernels than before; six, since torch 2.6 starts up to 10 % fewer than the version of the listed numbers.
    "more kernels": Fault(
        "training", "sit", "layers.modulation:modulate", "factor, shift)", "factor, shift)" + " + 0 * x" * 6
    ),
    # Half precision where it loses too much.
    "state": Fault(
        "precision", "arflow", "ops.hybrid_linear.chunk:hybrid_attention_chunk", "enabled=False", "enabled=True"
    ),
    "decay": Fault(
        "precision", "arflow", "ops.hybrid_linear.kinds:accumulation_dtype", "else torch.float32", "else x.dtype"
    ),
    "residual of DiT": Fault(
        "precision",
        "sit",
        "families.dit.model:DiffusionTransformer._velocity",
        ".to(compute_dtype(self.x_embedder.proj))",
        "",
    ),
    "residual of the head": Fault(
        "precision", "flowar", "families.flowar.flow_head:FlowHead.forward", "(x.to(dtype)).to(dtype)", "(x.to(dtype))"
    ),
    "block": Fault(
        "precision",
        "sit",
        "layers.adaln_zero:AdaLNZeroBlock.forward",
        "x = gated",
        "x = x.bfloat16(); x = gated",
    ),
}


def inject(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    """Put the changed function in the place of the right one, wherever it was imported to."""
    module_name, _, path = fault.function.partition(":")
    owner = module = importlib.import_module(f"flowgression.{module_name}")
    *classes, name = path.split(".")
    for each in classes:
        owner = getattr(owner, each)
    right = getattr(owner, name)
    source = textwrap.dedent(inspect.getsource(right))
    assert fault.old in source, f"{fault.function} has changed: no {fault.old!r} in it"
    scope: dict = {}
    exec(
        compile(source.replace(fault.old, fault.new), fault.function, "exec"),
        vars(module) | {"__name__": "injected"},
        scope,
    )
    if classes:
        monkeypatch.setattr(owner, name, scope[name])
        return
    for other in [
        each for key, each in sys.modules.items() if key.startswith(("flowgression.", "tests.simulated_gpu."))
    ]:
        for known, value in list(vars(other).items()):
            if value is right:
                monkeypatch.setattr(other, known, scope[name])


@pytest.mark.parametrize("name", FAULTS)
def test_an_injected_fault_is_found(
    gpu: SimulatedGpu, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fault = FAULTS[name]
    inject(monkeypatch, fault)
    with pytest.raises((AssertionError, DeviceMismatch)):
        _check(gpu, fault, tmp_path)


def _check(gpu: SimulatedGpu, fault: Fault, folder: Path) -> None:
    if fault.check == "training":
        check_training(gpu, fault.model, folder)
    elif fault.check == "precision":
        check_precision(gpu, fault.model)
    else:
        check_sampling(gpu, fault.model, "sde" if fault.check == "sde" else "euler")
