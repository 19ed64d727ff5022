"""FLOPs and NFE of sampling against closed forms."""

from typing import Any

import pytest
import torch

from flowgression import ARFlow, FlowAR, make_pipeline
from flowgression.evaluation.cost import count_work
from flowgression.flops import count_flops

D, DEPTH, TOKENS, STEPS = 16, 2, 4, 5
SIZES: dict[str, Any] = {
    "sample_size": 4, "patch_size": 2, "in_channels": 1, "hidden_size": D, "depth": DEPTH, "num_heads": 2,
    "num_classes": 3,
}  # fmt: skip


def of_one_image(network: ARFlow, halves: int) -> int:
    """A step, whose modulations are made before it."""
    prepared = network.prepare(torch.zeros(1), torch.arange(halves))[0]
    return count_flops(lambda: network(torch.zeros(1, 1, 1, 4, 4), prepared=prepared))


def of_one_map(network: FlowAR, tokens: int, halves: int) -> int:
    """A step of the flow head, which reads the semantics of a scale once for all its steps."""
    read = network.flow_head.read(torch.zeros(halves, tokens, D), (round(tokens**0.5),))
    prepared = network.flow_head.prepare(torch.zeros(1))[0]
    return count_flops(lambda: network.flow_head(torch.zeros(1, tokens, 1), None, read, prepared=prepared))


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_attention_to_earlier_steps_costs_what_it_reads(guidance: float) -> None:
    """Full attention reads the tokens of all steps so far; without context only those of the step."""
    call, halves = {"num_inference_steps": STEPS, "guidance_scale": guidance}, 2 if guidance > 1 else 1
    found = {}
    for context in ("none", "full", "hybrid"):
        network = ARFlow(**SIZES, context=context).eval()
        calls, found[context] = count_work(make_pipeline(network), call)
        assert calls == STEPS
        # Of two images of one class: the modulations of every step and label are made once.
        shared = count_flops(lambda: network.prepare(torch.zeros(STEPS), torch.arange(halves)))  # noqa: B023
        found[f"{context}, alone"] = STEPS * of_one_image(network, halves) + shared / 2
    assert found["none"] == found["none, alone"]
    assert found["hybrid"] == found["hybrid, alone"]  # a state of constant size
    earlier = sum(range(STEPS)) * 4 * TOKENS**2 * D * DEPTH
    assert found["full"] == found["none"] + halves * earlier


@pytest.mark.parametrize("attention", ["exact", "lowrank"])
def test_flowar_reads_every_scale_once_and_steps_at_each(attention: str) -> None:
    sizes = {"hidden_size": D, "num_heads": 2, "encoder_depth": 1, "decoder_depth": 1, "num_classes": 3}
    flow = {"flow_width": D, "flow_depth": 1, "flow_num_heads": 2, "attention": attention}
    network = FlowAR(sample_size=4, in_channels=1, scales=(1, 2, 4), **sizes, **flow).eval()

    def flops_of(steps: int) -> float:
        call = {"num_inference_steps": steps, "guidance_scale": 2.0, "guidance_interval": (0.0, 1.0)}
        calls, flops = count_work(make_pipeline(network), call)
        assert calls == 3 * steps
        return flops

    # Guidance is 1 at the first scale, so only the class half runs there.
    step = of_one_map(network, 1, 1) + of_one_map(network, 4, 2) + of_one_map(network, 16, 2)
    shared = count_flops(lambda: network.flow_head.prepare(torch.zeros(2)))  # by two images and all scales
    assert flops_of(3) - flops_of(1) == 2 * step + shared / 2
