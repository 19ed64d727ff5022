"""SiT and ARFlow as circuits: without rounding the compiled source is the model, with more bits it approaches it, and
the circuit equals the integers.
"""

from itertools import pairwise

import numpy as np
import pytest
import torch

from flowgression import ARFlow, SiT
from flowgression.circuits import build, count, dit_program, evaluate, measured_precision, outline, random_dit, read_dit
from flowgression.circuits.calibrate import run_real
from flowgression.circuits.compile import Precision, interpret, sample_inputs
from flowgression.families.arflow import sampling as arflow
from flowgression.families.sit import sampling as sit
from flowgression.ops.hybrid_linear import CONTEXTS

SIZES = {"sample_size": (4, 6), "patch_size": 2, "in_channels": 3, "hidden_size": 8, "depth": 2, "num_heads": 2}
SIZES |= {"mlp_ratio": 2.0, "num_classes": 4}
TIMES = (0.0, 0.2, 0.6, 1.0)
GUIDED = {"guidance_scale": 3.0, "guidance_interval": (0.1, 1.0)}
VARIANTS = {
    "SiT": (SiT, {}, {}),
    "SiT guided": (SiT, {"learn_sigma": False}, GUIDED),
    **{f"ARFlow {context}": (ARFlow, {"context": context}, {}) for context in CONTEXTS},
    "ARFlow guided": (ARFlow, {}, GUIDED),
}


def random_model(kind, changes):
    torch.manual_seed(0)
    model = kind(**{**SIZES, **changes})
    with torch.no_grad():
        for parameter in model.parameters():  # no closed branch: everything must count
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.double().eval()


def drawn(kind, model, guidance, samples=20):
    """Real inputs of the program, and PyTorch's images as pixels [B, H W, C]."""
    labels = np.arange(samples) % 5
    z = torch.from_numpy(np.random.default_rng(0).standard_normal((samples, 3, 4, 6)))
    module = sit if kind is SiT else arflow
    found = module.sample(model, z, torch.from_numpy(labels), times=TIMES, **guidance).sample
    pixels = [each.flatten(2).transpose(1, 2).numpy() for each in (z, found)]
    return {"label": labels, "noise": pixels[0]}, pixels[1]


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_rounding_the_source_is_the_model(variant):
    """To the 1e-6 in PyTorch's norms, which here are of values about 1, through twelve of them."""
    kind, changes, guidance = VARIANTS[variant]
    model = random_model(kind, changes)
    inputs, reference = drawn(kind, model, guidance)
    found, _ = run_real(dit_program(read_dit(model, TIMES, **guidance)), inputs)
    np.testing.assert_allclose(found["image"], reference, rtol=0, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_measured_formats_approach_pytorch(variant):
    kind, changes, guidance = VARIANTS[variant]
    model = random_model(kind, changes)
    inputs, reference = drawn(kind, model, guidance)
    program = dit_program(read_dit(model, TIMES, **guidance))
    errors = []
    for bits in (8, 12, 16, 20):
        precision = measured_precision(program, bits)
        result = interpret(program, precision, program.quantise(precision, inputs))
        errors.append(np.abs(result.real("image") - reference).mean())
        assert result.saturation < 0.01
    assert all(b < a / 2 for a, b in pairwise(errors)), errors
    assert errors[-1] < errors[0] / 2**8  # 12 bits more


@pytest.mark.parametrize("context", [None, "hybrid", "linear"])
@pytest.mark.parametrize("measured", [True, False])
def test_circuit_equals_the_integers(context, measured):
    """Two steps, so that a state is read; built as a whole, counted exactly, below the nominal depth."""
    times = (0.0, 1.0) if context is None else (0.0, 0.5, 1.0)
    spec = random_dit(0, grid=(1, 2), width=2, mlp_width=2, num_classes=2, times=times, context=context)
    program = dit_program(spec)
    precision = measured_precision(program, 5) if measured else Precision(5)
    circuit = build(program, precision)
    inputs = sample_inputs(program, precision, 64)
    expected = interpret(program, precision, inputs)
    found = circuit.decode_outputs(evaluate(circuit, circuit.encode_inputs(**inputs)))["image"]
    np.testing.assert_array_equal(found, expected.outputs["image"])
    assert len(np.unique(found)) > 4
    assert circuit.statistics() == count(program, precision).total_statistics
    assert circuit.statistics().depth <= outline(program, precision).depth


@pytest.mark.parametrize("context", [None, "hybrid"])
def test_depth_is_the_same_for_every_n(context):
    """Weights as inputs, softmax and state included."""
    depths = []
    for n in (2, 3):
        spec = random_dit(0, grid=(n, n), width=2, mlp_width=2, times=(0.0, 0.5, 1.0), context=context)
        depths.append(count(dit_program(spec), Precision(6), wired=False).total_statistics.depth)
    assert depths[0] == depths[1]


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("steps", [1, 3])
def test_the_stated_bounds_on_depth(blocks, steps):
    """Those of docs/circuits.md, for two numbers of tokens each: SiT, and ARFlow with its state from step to step."""
    times = tuple(k / steps for k in range(steps + 1))
    for grid in ((1, 2), (3, 3)):
        sizes = {"grid": grid, "width": 2, "mlp_width": 2, "depth": blocks, "times": times}
        for context, one, measured_one, state in ((None, 182, 205, 0), ("hybrid", 246, 269, 10)):
            program = dit_program(random_dit(0, **sizes, context=context))
            extra = state * blocks * (steps - 1)
            assert outline(program, Precision(8)).depth == steps * (80 + one * blocks) + extra
            measured = outline(program, measured_precision(program, 8, samples=2))
            assert measured.depth == steps * (80 + measured_one * blocks) + extra
