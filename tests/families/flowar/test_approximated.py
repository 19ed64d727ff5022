"""Approximating a FlowAR: the same weights, the error that was asked for, in every form the model is used in."""

import copy

import pytest
import torch

from flowgression import FlowAR, FlowARPipeline, InputError
from flowgression.families.flowar.circuit import describe
from flowgression.families.flowar.probe import attention_names
from flowgression.families.flowar.sampling import sample
from flowgression.theory import approximate, measure_criterion
from flowgression.theory.approximation import Approximation
from flowgression.theory.trajectory import starting_points
from tests.families.flowar.cases import small_model

BOUNDED = {"attention": "bounded", "attention_max_tau": 1.0, "num_heads": 4, "flow_num_heads": 4}
STEPS = {"num_inference_steps": 2, "guidance_scale": 2.0}


@pytest.fixture(scope="module")
def bounded() -> FlowAR:
    return small_model("powers", **BOUNDED)


@pytest.fixture(scope="module")
def approximated(bounded: FlowAR) -> tuple[Approximation, FlowAR]:
    return approximate(bounded, 1e-3, num_images=2, return_report=True, **STEPS)


def test_the_weights_are_the_same(bounded: FlowAR, approximated: tuple) -> None:
    own = bounded.state_dict()
    for name, value in approximated[1].state_dict().items():
        if not name.endswith("shift"):
            torch.testing.assert_close(value, own[name.replace("attention.exact.", "attention.")], rtol=0, atol=0)


@pytest.mark.parametrize("bounds", ["measured", "cauchy-schwarz"])
@pytest.mark.parametrize("overrides", [BOUNDED, {"cross_attention": True, "num_heads": 4, "flow_num_heads": 4}])
def test_the_error_asked_for_is_kept(overrides: dict, bounds: str) -> None:
    model = small_model("powers", **overrides)
    approximation, approximated = approximate(model, 1e-3, num_images=2, bounds=bounds, return_report=True, **STEPS)
    labels, noise = starting_points(model, 2, seed=0)
    exact = sample(model, labels, noise=noise, **STEPS).sample
    measured = (sample(approximated, labels, noise=noise, **STEPS).sample - exact).abs().max().item()
    assert approximation.estimate <= 1e-3
    assert measured <= 1e-3
    assert measured == pytest.approx(approximation.estimate, rel=0.1, abs=1e-5)
    bounded_by_construction = "attention" in overrides and bounds == "cauchy-schwarz"
    assert all(layer.guaranteed for layer in approximation.layers) >= bounded_by_construction


def test_the_built_in_bounded_model_draws_the_same_digits() -> None:
    """Degree 4 changes no pixel by more than a grey level or two; the values in [-1, 1] span 255 levels."""
    model = FlowARPipeline.from_pretrained("flowar-mnist-bounded").transformer.eval()
    approximation, approximated = approximate(
        model, degree=4, bounds="cauchy-schwarz", num_images=2, return_report=True, **STEPS
    )
    assert all(layer.guaranteed and layer.logit_bound <= 1 for layer in approximation.layers)
    labels, noise = starting_points(model, 3, seed=7)
    exact, other = (sample(each, labels, noise=noise, **STEPS).sample for each in (model, approximated))
    assert (exact - other).abs().max() < 2 * 2 / 255
    assert (exact.max() - exact.min()) > 1.5  # digits, not a grey field


def test_with_a_cache_and_without(bounded: FlowAR, approximated: tuple) -> None:
    model = approximated[1]
    labels, noise = starting_points(model, 2, seed=3)
    cached = sample(model, labels, noise=noise, **STEPS)
    anew = sample(model, labels, noise=noise, use_cache=False, **STEPS)
    torch.testing.assert_close(cached.sample, anew.sample, rtol=1e-4, atol=1e-5)
    cache = model.new_cache(2)
    _, cache = model.next_semantics(None, labels, cache)
    assert cache.nbytes == model.cache_bytes(2)


def test_saved_and_loaded(approximated: tuple, tmp_path) -> None:
    model = approximated[1]
    model.save_pretrained(tmp_path)
    again = FlowAR.from_pretrained(tmp_path).eval()
    labels, noise = starting_points(model, 1, seed=4)
    first, second = (sample(each, labels, noise=noise, **STEPS).sample for each in (model, again))
    torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-6)
    with pytest.raises(InputError, match="already"):
        approximate(again, 1e-2)


def test_the_same_degree_everywhere(bounded: FlowAR) -> None:
    errors = []
    for degree in (2, 4, 6):
        approximation, _ = approximate(bounded, degree=degree, num_images=1, return_report=True, **STEPS)
        assert {layer.degree for layer in approximation.layers} == {degree}
        errors.append(approximation.estimate)
    assert errors[0] > 20 * errors[1] > 400 * errors[2]


def test_a_smaller_error_takes_no_smaller_degree(bounded: FlowAR) -> None:
    degrees = [
        max(layer.degree for layer in approximate(bounded, error, num_images=1, return_report=True, **STEPS)[0].layers)
        for error in (1e-1, 1e-4, 1e-7)
    ]
    assert degrees == sorted(degrees)
    assert degrees[-1] > degrees[0]


def test_heads_of_small_logits_take_smaller_degrees(bounded: FlowAR, tmp_path) -> None:
    model = copy.deepcopy(bounded)
    for name in attention_names(model):
        model.get_submodule(name).attention.set_tau(torch.tensor([0.05, 0.2, 0.6, 0.95]))
    approximation, approximated = approximate(
        model, certificate=3e-3, bounds="cauchy-schwarz", num_images=1, return_report=True, **STEPS
    )
    for layer in approximation.layers:
        assert layer.degrees == (2, 2, 4, 4)
        assert layer.guaranteed
        assert layer.certificate <= 3e-3
    labels, noise = starting_points(model, 1, seed=0)
    exact, other = (sample(each, labels, noise=noise, **STEPS).sample for each in (model, approximated))
    assert (other - exact).abs().max().item() == pytest.approx(approximation.estimate, rel=0.1, abs=1e-5)
    approximated.save_pretrained(tmp_path)
    again = FlowAR.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(sample(again, labels, noise=noise, **STEPS).sample, other, rtol=1e-6, atol=1e-6)
    for reads_one in (lambda: measure_criterion(again, num_images=1), lambda: describe(again, 1, (1.0, (0, 1)), None)):
        with pytest.raises(InputError, match="a polynomial for each head"):
            reads_one()
    with pytest.raises(InputError, match="already"):
        approximate(again, 1e-2)


def test_what_cannot_be_approximated_is_refused(bounded: FlowAR) -> None:
    sharp = small_model("powers")
    for parameter in sharp.parameters():
        torch.nn.init.normal_(parameter, std=1.0)
    with pytest.raises(InputError, match=r"not approximable: logits of .* reach"):
        approximate(sharp, 1e-2, num_images=1, **STEPS)
    with pytest.raises(InputError, match=r"is not worth it in .*: degree \d+ in heads of width 8 has rank"):
        approximate(bounded, 1e-2, num_images=1, require_gain=True, **STEPS)
    with pytest.raises(InputError, match="polynomials in place of exp already"):
        approximate(small_model("powers", attention="lowrank"), 1e-2)
    with pytest.raises(InputError, match="not approximable with a certificate of 1e-30"):
        approximate(bounded, certificate=1e-30, num_images=1, **STEPS)
    for wrong in (
        {},
        {"degree": 2, "certificate": 0.1},
        {"certificate": -1.0},
        {"target_error": 0.0},
        {"target_error": 1e-2, "bounds": "guessed"},
        {"degree": 3},
    ):
        with pytest.raises(InputError):
            approximate(bounded, **wrong)
    with pytest.raises(InputError, match=r"no attention 'blocks\.7'"):
        small_model("powers", approximation={"blocks.7": [2, 1.0]})
