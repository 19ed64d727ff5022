"""From PyTorch models to circuits: without rounding the compiled source is the model, and with more bits it approaches
it.
"""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch

from flowgression import HOFAR, ARFlow, FlowAR, InputError, SiT
from flowgression.circuits import build, count, evaluate, flowar_program, load, measured_precision, outline, read_flowar
from flowgression.circuits.calibrate import run_real
from flowgression.circuits.certify import certify
from flowgression.circuits.compile import Precision, interpret, sample_inputs
from flowgression.circuits.frontend import read_model
from flowgression.circuits.proof.checker import check_folder
from flowgression.cli.circuit import run
from flowgression.families.flowar.approximated import with_polynomials
from flowgression.families.flowar.sampling import noise_shapes, sample
from flowgression.theory import approximate

SIZES = {"sample_size": 3, "in_channels": 2, "scales": (1, 3), "hidden_size": 8, "num_heads": 2, "encoder_depth": 1}
SIZES |= {"decoder_depth": 1, "flow_width": 8, "flow_num_heads": 2, "flow_depth": 1, "num_classes": 4}
TIMES = (0.0, 0.6, 1.0)
PATCHES = {"sample_size": 6, "patch_size": 2}
CROSS = {"cross_attention": True, "hidden_size": 12, "num_heads": 3}
FAST = {"attention": "lowrank", "attention_degree": 2, "attention_max_tau": 2.0}
BOUNDED = {"attention": "bounded", "attention_max_tau": 3.0}
PARTS = {"decoder_blocks.0.attn": (4, 3.0), "flow_head.blocks.0.attn": (2, 2.0)}
GUIDED = {"guidance_scale": 3.0, "guidance_interval": (0.3, 1.0)}

HIGH_ORDER = {"family": HOFAR, "path": "gvp"}

VARIANTS = {
    "plain": ({}, {}),
    "patches": (PATCHES, {}),
    "guidance": ({}, GUIDED),
    "cross-attention": (CROSS, {}),
    "low rank": (FAST, {}),
    "low rank, unit values": (FAST | {"attention_unit_values": True}, {}),
    "bounded": (BOUNDED, {}),
    "bounded, cross-attention, plain values": (BOUNDED | CROSS | {"attention_unit_values": False}, {}),
    "approximated": ({"approximated": 0.05}, {}),
    "approximated in part": ({"approximated": PARTS}, GUIDED),
    "approximated, bounded, cross-attention": (BOUNDED | CROSS | {"approximated": 0.05}, {}),
    "low rank of degree 4": (FAST | {"attention_degree": 4, "attention_max_tau": 3.0}, {}),
    "Taylor": (HIGH_ORDER, {"solver": "taylor"}),
    "two heads, Euler": (HIGH_ORDER, {"solver": "euler"}),
    "Taylor and everything": (HIGH_ORDER | PATCHES | CROSS | FAST, GUIDED | {"solver": "taylor"}),
    "everything": (PATCHES | CROSS | FAST, GUIDED | {"guidance_interval": (0.0, 1.0)}),
}


def random_model(family=FlowAR, approximated=None, **changes):
    """approximated: the error for `theory.approximate`, or the polynomials of some layers, with shifts beside them."""
    torch.manual_seed(0)
    model = family(**{**SIZES, **changes})
    with torch.no_grad():
        for parameter in model.parameters():  # no closed branch: everything must count
            parameter.add_(0.2 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith("centre"):
                buffer.add_(0.3 * torch.randn_like(buffer))
    model = model.double().eval()
    if isinstance(approximated, dict):
        shape = model.encoder_blocks[0].attn.attention.num_heads, model.encoder_blocks[0].attn.attention.head_size
        return with_polynomials(model, approximated, {name: 0.3 * torch.randn(shape) for name in approximated})
    return model if approximated is None else approximate(model, approximated)


def drawn(model, samples=20, **sampling):
    """Real inputs of the program, and PyTorch's maps from them as pixels [B, (s P)^2, C]."""
    labels = np.arange(samples) % 5
    generator = np.random.default_rng(0)
    noise = [generator.standard_normal(shape) for shape in noise_shapes(model, len(labels))]
    tensors = [torch.from_numpy(e) for e in noise]
    found = sample(model, torch.from_numpy(labels), noise=tensors, times=TIMES, **sampling)
    inputs = {"label": labels} | {f"noise{k + 1}": each for k, each in enumerate(noise)}
    return inputs, [m.double().flatten(2).transpose(1, 2).numpy() for m in found.maps]


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_rounding_the_source_is_the_model(variant):
    """To what PyTorch's sampler loses: float32 maps between scales, and the 1e-6 in its norms (both below 1e-4)."""
    changes, guidance = VARIANTS[variant]
    model = random_model(**changes)
    inputs, reference = drawn(model, **guidance)
    found, ranges = run_real(flowar_program(read_flowar(model, TIMES, **guidance), all_scales=True), inputs)
    for name, expected in zip(("map1", "image"), reference, strict=True):
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-4)
    assert "block0.attn.qkv" in ranges


@pytest.mark.parametrize("variant", VARIANTS)
def test_measured_formats_approach_pytorch(variant):
    changes, guidance = VARIANTS[variant]
    model = random_model(**changes)
    inputs, reference = drawn(model, **guidance)
    program = flowar_program(read_flowar(model, TIMES, **guidance))
    errors = []
    for bits in (8, 12, 16, 20):
        precision = measured_precision(program, bits)
        result = interpret(program, precision, program.quantise(precision, inputs))
        errors.append(np.abs(result.real("image") - reference[-1]).mean())
        assert result.saturation < 0.01
    assert all(b < a / 2 for a, b in pairwise(errors)), errors
    assert errors[-1] < errors[0] / 2**8  # 12 bits more


def test_one_format_approaches_pytorch():
    model = random_model()
    inputs, reference = drawn(model)
    program = flowar_program(read_flowar(model, TIMES), all_scales=True)
    errors = []
    for bits in (8, 14):
        precision = Precision(bits)
        result = interpret(program, precision, program.quantise(precision, inputs))
        found = [result.real(name) for name in ("map1", "image")]
        errors.append([np.abs(f - r).mean() for f, r in zip(found, reference, strict=True)])
    assert max(errors[1]) < 0.02
    assert np.all(np.array(errors[1]) < 0.2 * np.array(errors[0]))


TINY = {"sample_size": 2, "in_channels": 1, "scales": (1, 2), "hidden_size": 4, "num_heads": 1, "flow_width": 4}
TINY |= {"flow_num_heads": 1}
OTHER_LOGITS = {"bounded": BOUNDED, "approximated": {"approximated": 0.1}}
OTHER_LOGITS |= {"unit values": FAST | {"attention_unit_values": True}}
OTHER_LOGITS |= {"approximated, bounded, cross-attention": BOUNDED | CROSS | {"approximated": 0.1}}
FAST_ONES = ("bounded", "approximated")


@pytest.mark.parametrize(
    "changes",
    [
        CROSS | TINY,
        FAST | TINY | {"sample_size": 4, "patch_size": 2},
        HIGH_ORDER | TINY | {"scales": (2,)},
    ],
)
def test_circuit_equals_the_integers(changes):
    """Measured formats, guidance: built as a whole, counted exactly, below the nominal depth."""
    model = random_model(**changes)
    program = flowar_program(read_flowar(model, (0.0, 1.0), guidance_scale=2.0))
    precision = measured_precision(program, 5)
    circuit = build(program, precision)
    inputs = sample_inputs(program, precision, 64)
    expected = interpret(program, precision, inputs)
    found = circuit.decode_outputs(evaluate(circuit, circuit.encode_inputs(**inputs)))["image"]
    np.testing.assert_array_equal(found, expected.outputs["image"])
    assert len(np.unique(found)) > 4
    assert circuit.statistics() == count(program, precision).total_statistics
    assert circuit.statistics().depth <= outline(program, precision).depth
    assert circuit.metadata["fractions"]["image"] == expected.fractions["image"]


def test_guidance_without_a_null_label_is_refused():
    with pytest.raises(InputError, match="null label"):
        read_flowar(random_model(class_dropout_prob=0.0), TIMES, guidance_scale=2.0)


@pytest.mark.parametrize(
    "kind", [name if name in FAST_ONES else pytest.param(name, marks=pytest.mark.slow) for name in OTHER_LOGITS]
)
def test_other_logits_are_proved(kind, tmp_path):
    """Whole models, in measured formats; on random inputs the circuit equals the integers too."""
    program = flowar_program(read_flowar(random_model(**{**OTHER_LOGITS[kind], **TINY}), (0.0, 1.0)))
    precision = measured_precision(program, 4)
    circuit = certify(program, precision, tmp_path)
    assert check_folder(tmp_path).gates == circuit.num_gates
    inputs = sample_inputs(program, precision, 64)
    found = circuit.decode_outputs(evaluate(circuit, circuit.encode_inputs(**inputs)))["image"]
    np.testing.assert_array_equal(found, interpret(program, precision, inputs).outputs["image"])
    assert len(np.unique(found)) > 4
    assert circuit.statistics().depth <= outline(program, precision).depth


def test_states_without_decay_are_refused():
    sizes = {"sample_size": 4, "patch_size": 2, "in_channels": 1, "hidden_size": 8, "depth": 1, "num_heads": 2}
    model = ARFlow(**sizes, num_classes=2, decay=False)
    with pytest.raises(InputError, match="decay=False has no circuit"):
        read_model(model, 2)


def test_solvers_without_their_derivatives_are_refused():
    with pytest.raises(InputError, match="a FlowAR is compiled for 'euler'"):
        read_model(random_model(), 2, solver="taylor")
    with pytest.raises(InputError, match="'heun'; a circuit of a HOFAR is compiled for 'euler' or 'taylor'"):
        read_model(random_model(**HIGH_ORDER), 2, solver="heun")
    specs = [read_model(random_model(**HIGH_ORDER), 2, solver=solver) for solver in (None, "taylor", "euler")]
    assert [spec.accelerated for spec in specs] == [True, True, False]


def test_command_takes_trained_models(tmp_path, capsys):
    """By their folder, in measured formats or one; saved with its formats; other models are refused by name."""
    random_model(**TINY).float().save_pretrained(tmp_path / "flowar")
    torch.manual_seed(0)
    sit = SiT(sample_size=2, patch_size=1, in_channels=1, hidden_size=4, depth=1, num_heads=1, mlp_ratio=1.0)
    sit.save_pretrained(tmp_path / "sit")
    asked = ["--bits", "4"]
    saved = tmp_path / "sit.npz"
    assert run(["compile", str(tmp_path / "sit"), *asked, "--out", str(saved)]) == 0
    assert set(load(saved).metadata["fractions"]) == {"noise", "image"}
    assert run(["count", str(tmp_path / "flowar"), *asked, "--steps", "2", "--guidance-scale", "2"]) == 0
    assert "formats by measured ranges" in capsys.readouterr().out
    assert run(["count", str(tmp_path / "flowar"), *asked, "--fraction", "2", "--weights-as-inputs"]) == 0
    assert "2 behind the point" in capsys.readouterr().out
    (tmp_path / "flowar" / "config.json").write_text(json.dumps({"_class_name": "Autoencoder"}))
    with pytest.raises(InputError, match="Autoencoder; circuits are compiled from ARFlow, SiT, FlowAR, HOFAR"):
        run(["count", str(tmp_path / "flowar")])


def test_times_run_as_everywhere_from_noise_to_data():
    """0 is noise and 1 is data, in the grid and in the interval of guidance; a grid that falls is refused."""
    spec = read_flowar(random_model(**TINY), TIMES, guidance_scale=2.0, guidance_interval=(0.0, 0.5))
    assert spec.times == TIMES
    assert spec.guidance_interval == (0.0, 0.5)
    last = len(spec.scales) - 1
    assert [spec.guidance_at(last, t) for t in TIMES] == [2.0, 1.0, 1.0]
    with pytest.raises(InputError, match="expected a rising grid from 0 to 1"):
        read_flowar(random_model(**TINY), tuple(reversed(TIMES)))
