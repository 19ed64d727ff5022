"""From a PyTorch FlowAR to the spec: the fixed-point model draws nearly the same maps, and nearer with more bits."""

import numpy as np
import pytest
import torch

from flowgression.circuits.compile import Precision, interpret
from flowgression.circuits.frontend import read_flowar
from flowgression.circuits.programs import flowar_program
from flowgression.errors import InputError
from flowgression.models.flowar.model import FlowAR
from flowgression.sampling.flowar import noise_shapes, sample

SIZES = {"sample_size": 3, "in_channels": 2, "scales": (1, 3), "hidden_size": 8, "num_heads": 2, "encoder_depth": 1}
SIZES |= {"decoder_depth": 1, "flow_width": 8, "flow_num_heads": 2, "flow_depth": 1, "num_classes": 4}
TIMES = (1.0, 0.4, 0.0)


def random_model(**changes):
    torch.manual_seed(0)
    model = FlowAR(**{**SIZES, **changes})
    with torch.no_grad():
        for parameter in model.parameters():  # no closed branch: everything must count
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.double().eval()


def test_fixed_point_approaches_pytorch():
    model = random_model()
    labels = np.arange(20) % 5
    generator = np.random.default_rng(0)
    noise = [generator.standard_normal(shape) for shape in noise_shapes(model, len(labels))]
    drawn = sample(model, torch.from_numpy(labels), noise=[torch.from_numpy(e) for e in noise], times=TIMES)
    reference = [m.double().flatten(2).transpose(1, 2).numpy() for m in drawn.maps]
    program = flowar_program(read_flowar(model, TIMES), all_scales=True)
    errors = []
    for bits in (8, 14):
        precision = Precision(bits)
        inputs = {"label": labels} | {f"noise{k + 1}": precision.quantise(e) for k, e in enumerate(noise)}
        outputs = interpret(program, precision, inputs).outputs
        found = [precision.dequantise(outputs[name]) for name in ("map1", "image")]
        errors.append([np.abs(f - r).mean() for f, r in zip(found, reference, strict=True)])
    assert max(errors[1]) < 0.02
    assert np.all(np.array(errors[1]) < 0.2 * np.array(errors[0]))


@pytest.mark.parametrize(
    "changes", [{"cross_attention": True}, {"patch_size": 3, "scales": (1,)}, {"attention": "lowrank"}]
)
def test_what_is_not_compiled_is_named(changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        read_flowar(random_model(**changes), TIMES)
