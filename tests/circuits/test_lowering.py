"""Every layer and whole models: circuit = integer interpreter, bit for bit; three ways of counting agree; real
values are close.
"""

import numpy as np
import pytest

from flowgression import InputError
from flowgression.circuits import (
    FlowARSpec,
    build,
    count,
    evaluate,
    flowar_program,
    layer_program,
    outline,
    random_spec,
)
from flowgression.circuits.calibrate import run_real
from flowgression.circuits.compile import Input, Precision, Program, count_gate_by_gate, interpret, sample_inputs
from flowgression.circuits.kinds import Attention, Polynomial
from flowgression.circuits.lower import attention, basics
from flowgression.circuits.programs import EXP_POLYNOMIAL, LAYERS, MAX_TAU, area_matrix, bicubic_matrix
from flowgression.ops import minimax_exp

P6, P8 = Precision(6), Precision(8)
TINY = {"width": 2, "flow_width": 2, "decoder_depth": 0, "num_classes": 3}


def mismatches(program, precision, samples=128, spread=1.0, **options):
    circuit = build(program, precision, **options)
    inputs = sample_inputs(program, precision, samples, spread=spread)
    expected = interpret(program, precision, inputs)
    if not options.get("wired", True):
        flat = np.concatenate([c.reshape(-1) for c in expected.constants])
        inputs["weights"] = np.broadcast_to(flat, (samples, len(flat)))
    found = circuit.decode_outputs(evaluate(circuit, circuit.encode_inputs(**inputs)))
    assert found.keys() == expected.outputs.keys()
    return circuit, sum(int((found[name] != expected.outputs[name]).sum()) for name in found), expected


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_layer_equals_integers_and_is_counted_exactly(name):
    program = layer_program(name, n=2, width=2)
    circuit, wrong, expected = mismatches(program, P6)
    assert wrong == 0
    assert expected.saturation < 0.5
    assert (
        circuit.statistics() == count(program, P6).total_statistics == count_gate_by_gate(program, P6, templates=False)
    )
    assert circuit.statistics().depth <= outline(program, P6).depth


@pytest.mark.parametrize("name", ["attention", "matmul"])
def test_layer_under_heavy_saturation(name):
    _, wrong, expected = mismatches(layer_program(name, n=2, width=2), P6, spread=100.0)
    assert wrong == 0
    assert expected.saturation > 0


def test_layer_with_the_crt_back_end():
    program = layer_program("rms-norm", n=1, width=2)
    circuit, wrong, _ = mismatches(program, Precision(4), backend="crt")
    assert wrong == 0
    assert circuit.statistics() == count(program, Precision(4), backend="crt").total_statistics


def test_weights_as_inputs():
    program = layer_program("attention", n=1, width=2)
    circuit, wrong, _ = mismatches(program, P6, wired=False)
    assert wrong == 0
    counted = count(program, P6, wired=False)
    assert circuit.statistics() == counted.total_statistics
    assert circuit.num_inputs == counted.num_inputs


def test_attention_depth_is_the_same_for_every_n():
    depths = {n: count(layer_program("attention", n, 2), P8).total_statistics.depth for n in (2, 3, 4)}
    assert set(depths.values()) == {45}


def test_flowar_equals_integers():
    spec = random_spec(0, scales=(1, 2), **TINY)
    program = flowar_program(spec, all_scales=True)
    circuit, wrong, expected = mismatches(program, P6, samples=64)
    assert wrong == 0
    assert len(np.unique(expected.outputs["image"])) > 10
    assert circuit.statistics() == count(program, P6).total_statistics


def real(program, precision, inputs):
    result = interpret(program, precision, {k: precision.quantise(v) for k, v in inputs.items()}).outputs["y"]
    return np.ldexp(np.asarray(result, dtype=np.float64), -precision.f)


def one_layer(apply, shape):
    return Program("layer", {"x": Input(shape)}, lambda ops, t: {"y": apply(ops, t["x"])})


FINE = Precision(16)
X = np.random.default_rng(0).standard_normal((20, 5, 6))


def normed(x, centre):
    x = x - x.mean(-1, keepdims=True) if centre else x
    return x / np.sqrt((x * x).mean(-1, keepdims=True))


@pytest.mark.parametrize(("layer", "centre"), [(basics.rms_norm, False), (basics.layer_norm, True)])
def test_norms_approach_the_real_ones(layer, centre):
    precision = Precision(12)
    found = real(one_layer(layer, X.shape[1:]), precision, {"x": X})
    assert np.abs(found - normed(X, centre)).max() < 0.02


def test_attention_approaches_the_real_one():
    q, k, v = (np.random.default_rng(i).standard_normal((20, 5, 4)) for i in range(3))
    scores = q @ np.swapaxes(k, -1, -2)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    inputs = {name: Input((5, 4)) for name in "qkv"}
    program = Program("softmax", inputs, lambda ops, t: {"y": attention.softmax_attention(ops, t["q"], t["k"], t["v"])})
    errors = [np.abs(real(program, Precision(p), {"q": q, "k": k, "v": v}) - weights @ v).max() for p in (8, 12)]
    assert errors[1] < 0.03 < errors[0]


SCALES = (slice(0, 4), slice(4, 9))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("degree", [2, 4])
def test_polynomial_attention_approaches_the_real_one(degree):
    """Two scales: the second reads the first from the summed state. Against the dense polynomial of FastFlowAR."""
    generator = np.random.default_rng(0)
    q, k, v = (generator.standard_normal((20, 2, 9, 4)) for _ in range(3))
    head = {"tau": np.array([0.7, 1.9]), "centre": 0.5 * generator.standard_normal((2, 4))}
    polynomial = Polynomial(minimax_exp(degree, 2.0).coefficients, 9)
    kind = Attention(cosine=True, polynomial=polynomial)
    cosine = unit(q) @ np.swapaxes(unit(k - head["centre"][:, None]), -1, -2)
    kernel = np.polynomial.Polynomial(polynomial.coefficients)(head["tau"][:, None, None] * cosine)
    kernel[..., :4, 4:] = 0
    expected = kernel / kernel.sum(-1, keepdims=True) @ v

    def body(ops, t):
        seen = [attention.seen_tokens(ops, t["k"][..., s, :], t["v"][..., s, :], kind, head, "") for s in SCALES]
        first, state = attention.attend(ops, t["q"][..., :4, :], seen[0], kind, head)
        later = attention.attend(ops, t["q"][..., 4:, :], seen[1], kind, head, state)
        return {"first": first, "second": later[0]}

    program = Program("low", {name: Input((2, 9, 4)) for name in "qkv"}, body)
    inputs = {"q": q, "k": k, "v": v}
    exact = run_real(program, inputs)[0]
    np.testing.assert_allclose(np.concatenate([exact["first"], exact["second"]], axis=-2), expected, atol=1e-12)
    errors = []
    for bits in (10, 16):
        precision = Precision(bits)
        result = interpret(program, precision, program.quantise(precision, inputs))
        found = np.concatenate([result.real("first"), result.real("second")], axis=-2)
        errors.append(np.abs(found - expected).max())
    assert errors[1] < errors[0] / 2**4


def test_resampling_matrices():
    ramp = np.arange(36.0).reshape(6, 6)
    halves = (area_matrix(6, 3) @ ramp.reshape(-1)).reshape(3, 3)
    np.testing.assert_allclose(halves, ramp.reshape(3, 2, 3, 2).mean((1, 3)))
    np.testing.assert_allclose(bicubic_matrix(5, 10).sum(1), 1)
    with pytest.raises(InputError, match="no multiple"):
        area_matrix(5, 2)


def test_wrong_requests_are_named():
    with pytest.raises(InputError, match="did you mean 'attention'"):
        layer_program("atention")
    with pytest.raises(InputError, match="4 to 24"):
        Precision(3)
    with pytest.raises(InputError, match="growing"):
        FlowARSpec(scales=(4, 2))
    with pytest.raises(InputError, match="class_embed"):
        FlowARSpec(arrays={"time": np.zeros((1, 4))})
    with pytest.raises(InputError, match="Known: table, crt"):
        build(layer_program("linear"), P6, backend="magic")
    with pytest.raises(InputError, match="input x is missing"):
        interpret(layer_program("linear"), P6, {})


def test_the_polynomial_of_the_low_rank_layer_is_that_of_the_models():
    np.testing.assert_allclose(EXP_POLYNOMIAL, minimax_exp(2, MAX_TAU).coefficients, rtol=1e-12)
