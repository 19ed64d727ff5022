"""What is demanded of code on a GPU. A fault that is injected must make one of these fail (test_faults.py)."""

from pathlib import Path

import pytest
import torch

from flowgression import FlowAR, SiT
from flowgression.families.flowar.training import flowar_losses
from flowgression.flow import flow_matching_loss
from flowgression.layers.lowrank_attention import LowRankState
from flowgression.training.sharding import blocks_of
from tests.simulated_gpu.cases import make_model, sampler, train
from tests.simulated_gpu.device import SimulatedGpu

Waits = dict[tuple[str, str], int]
TRAINING_STEP: Waits = {("copy to the processor", "training/step.py:averaged_numbers"): 1}  # the metrics
SAMPLING_CALL: Waits = {  # before the first and after the last step; a step itself waits for nothing
    ("copy to the device", "sampling/between.py:network_labels"): 1,  # the class labels
    ("copy to the device", "sampling/between.py:labels_and_rows"): 1,  # each image's row among the different labels
    ("copy to the device", "sampling/prepared.py:__init__"): 1,  # the times
    ("value of _local_scalar_dense", "sampling/pipeline.py:to_output"): 1,  # is the result finite?
}
FIRST_CALL = {("copy to the device", "ops/lowrank/tables.py:_weights")}  # made once for each device, and kept
# Kernels that one step of the models of cases.py started when this was written; `SLACK` times as many are allowed.
# A step of sampling has guidance; of FlowAR it is one step at every scale.
SLACK = 1.05
TRAINING_LAUNCHES = {
    "arflow": 340,
    "arflow with all images as context": 293,
    "sit": 207,
    "flowar": 617,
    "flowar with cross-attention": 710,
    "hofar": 855,
    "fastflowar": 1200,
}
SAMPLING_LAUNCHES = {
    "arflow": 64,
    "arflow with all images as context": 56,
    "sit": 22,
    "flowar": 90,
    "flowar with cross-attention": 110,
    "hofar": 90,
    "fastflowar": 226,
}


def check_training(gpu: SimulatedGpu, name: str, folder: Path) -> None:
    """A step computes what the processor does, waits once for the metrics, and starts no more kernels than before."""
    expected = [metrics["loss"] for metrics in train(name, folder, "cpu")]
    losses = []
    for metrics in train(name, folder, "cuda"):
        losses.append(metrics["loss"])
        waits, launches = dict(gpu.waits), gpu.launches.total()
        gpu.reset()
    assert waits == TRAINING_STEP
    assert launches <= SLACK * TRAINING_LAUNCHES[name]
    # The same kernels on the same numbers: only another order of sums, of the attention, may change the last digits.
    assert losses == pytest.approx(expected, rel=1e-4)


def check_sampling(gpu: SimulatedGpu, name: str, solver: str = "euler") -> None:
    """Sampling draws what the processor draws, waits for nothing in a step, and starts no more kernels than before."""
    draw = sampler(name, gpu, solver=solver)
    gpu.reset()  # the model's way to the device
    draw(num_inference_steps=2)  # what is made once for a device is there from here on
    assert set(gpu.waits) <= {*SAMPLING_CALL, *FIRST_CALL}, gpu.waits
    gpu.reset()
    images = draw()
    waits, launches = dict(gpu.waits), gpu.launches.total()
    gpu.reset()
    draw(num_inference_steps=4)
    assert dict(gpu.waits) == waits, "a step waits for the device"
    assert waits.items() <= SAMPLING_CALL.items()
    if solver == "euler":
        assert (gpu.launches.total() - launches) / 2 <= SLACK * SAMPLING_LAUNCHES[name]
    expected = sampler(name)(solver=solver)
    torch.testing.assert_close(images.cpu(), expected, rtol=1e-4, atol=1e-4)


def check_precision(gpu: SimulatedGpu, name: str) -> None:
    """Under autocast matrix products are bfloat16, while the residual stream, states and the loss are float32."""
    model = make_model(name).to("cuda:0")
    residual, products = set(), set()
    for block in blocks_of(model):
        block.register_forward_hook(lambda _, __, out: residual.add((out[0] if isinstance(out, tuple) else out).dtype))
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda _, __, out: products.add(out.dtype))
    labels, images = torch.arange(2).to("cuda:0"), torch.randn(2, 1, 28, 28).to("cuda:0")
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        if isinstance(model, FlowAR):
            noise = torch.randn(2, sum(s * s for s in model.scales), model.flow_head.token_channels).to("cuda:0")
            loss = flowar_losses(model, images, labels, torch.rand(2, len(model.scales)).to("cuda:0"), noise)[1]
            _, cache = model.next_semantics(None, labels, model.new_cache(2))
            states = [layer.sums for layer in cache.layers if isinstance(layer, LowRankState)]
        else:
            x, t = images, torch.rand(2)
            if not isinstance(model, SiT):
                x, t = torch.stack([images, images], dim=1), torch.rand(2, 2)
            output = model(x, t.to("cuda:0"), labels)
            loss = flow_matching_loss(output.velocity, torch.randn_like(x))
            states = [state for state in getattr(output, "state", []) if isinstance(state, torch.Tensor)]
    assert products == {torch.bfloat16}
    assert residual == {torch.float32}
    assert loss.dtype == torch.float32
    assert {state.dtype for state in states} <= {torch.float32}
