"""`objective: meanflow`: what models of average velocities are trained on, and that they are drawn from by one call."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from flowgression import InputError, TrainConfig, load_pipeline, train
from flowgression.families.dit.model import _as_velocity
from flowgression.flow import flow_matching_loss
from flowgression.flow.average import along_path
from flowgression.flow.paths import get_path
from flowgression.flow.sequence import noise_at
from flowgression.models import build_model, find_family
from flowgression.training import ModelConfig
from flowgression.training.meanflow import (
    Rows,
    Teacher,
    _along,
    _errors,
    _one_image,
    guided_velocity,
    interval_times,
)
from flowgression.training.randomness import StepRandomness
from flowgression.training.settings import MeanFlowConfig

FAMILIES = ("sit", "arflow")
Call = Callable[[Tensor, Tensor, Tensor, Tensor, Any], tuple[Tensor, Any]]
SAMPLE = {"prediction_type": "sample"}


def make(family: str, **args: Any) -> Any:
    """A small model whose every weight counts."""
    torch.manual_seed(0)
    sizes = {"sample_size": 8, "patch_size": 4, "in_channels": 1, "hidden_size": 16, "depth": 2, "num_heads": 2}
    model = build_model(family, **({**sizes, "num_classes": 3, "learn_sigma": False, "average_velocity": True} | args))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return model


def call_of(family: str, model: Any) -> Call:
    """One image a row, as the family's objective calls its model."""

    def call(x: Tensor, t: Tensor, r: Tensor, labels: Tensor, state: Any) -> tuple[Tensor, Any]:
        ends = r if model.config.average_velocity else None
        if family == "sit":
            return model(x, t, labels, r=ends).velocity, None
        output = model(x[:, None], t[:, None], labels, state, r=None if ends is None else ends[:, None])
        return output.velocity[:, 0], output.state

    return call


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("context", [None, "sample", "refined", "hybrid", "linear", "full", "none"])
def test_the_derivative_is_that_of_two_reverse_passes(context: str | None) -> None:
    """Forward mode through patches, modulation, attention, norms and the state of an earlier image."""
    family = "sit" if context in (None, "sample", "refined") else "arflow"
    of_sit = {None: {}, "sample": SAMPLE, "refined": SAMPLE | {"refine_width": 4}}
    args = of_sit.get(context, {"context": context})
    model = make(family, **args).double()
    call, x, v = call_of(family, model), images(3).double(), images(3).double().flip(0)
    labels = torch.tensor([0, 2, 3])
    t, r = torch.tensor([0.1, 0.4, 0.8]).double(), torch.tensor([1.0, 0.5, 0.8]).double()
    state = call(images(3).double().flip(1), t / 2, r, labels, None)[1]
    found = along_path(lambda x, t: call(x, t, r, labels, state), x, t, v)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):  # fused kernels have no second derivative
        output, expected = torch.autograd.functional.jvp(
            lambda x, t: call(x, t, r, labels, state)[0], (x, t), (v, torch.ones_like(t))
        )
    # Sinusoids of the time are float32 wherever they are computed, their derivative too.
    torch.testing.assert_close(found.derivative, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    torch.testing.assert_close(found.average, output, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_an_interval_or_guidance_it_is_flow_matching(family: str) -> None:
    model, sequences = make(family), images(4, 2)
    noise = torch.randn(sequences.shape, generator=torch.Generator().manual_seed(2))
    noised = noise_at(sequences, noise, torch.tensor([[0.2, 0.6]]).expand(4, 2))
    labels = torch.tensor([[0, 0], [1, 1], [2, 2], [3, 3]])
    rows = Rows(noised.x_t, noised.target, noised.t, noised.t, labels)
    if family == "sit":
        velocity = model(noised.x_t.flatten(0, 1), noised.t.flatten(), labels.flatten()).velocity.unflatten(0, (4, 2))
    else:
        velocity = model(noised.x_t, noised.t, labels).velocity
    expected = flow_matching_loss(velocity, noised.target, per_image=True)
    for spans in (False, True):  # an interval of length 0 leaves nothing of the derivative
        errors = _errors(call_of(family, model), rows, 3, MeanFlowConfig(), spans=spans)
        torch.testing.assert_close(errors.unflatten(0, (2, 4)).T, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spans", [False, True])
def test_the_guided_velocity_is_what_is_learned(spans: bool) -> None:
    """Where the model predicts v_null + s (v - v_null), its error is 0; rows without a label learn v itself."""
    scale, v, v_null = 2.5, images(4), images(4).flip(0)
    labels, t = torch.tensor([0, 1, 3, 3]), torch.full((4,), 0.3)

    def call(x: Tensor, t: Tensor, r: Tensor, given: Tensor, state: Any) -> tuple[Tensor, Any]:
        null = torch.where((labels == 3)[:, None, None, None], v, v_null)
        guided = null + scale * (v - null)
        return torch.where((given == 3)[:, None, None, None], null, guided) + 0 * x, None

    settings = MeanFlowConfig(guidance_scale=scale)
    rows = Rows(images(4), v, t, t + 0.5, labels)
    found, target, _ = _one_image(call, rows, (None, None), 3, settings, spans)
    torch.testing.assert_close(found, target)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_objective_reaches_every_weight(family: str) -> None:
    model = make(family, class_dropout_prob=0.3)
    objective = find_family(family).average_objective_function
    batch = images(6, 3) if family == "arflow" else images(6)
    output = objective(
        model, batch, torch.arange(6) % 3, StepRandomness(0, 0), settings=MeanFlowConfig(guidance_scale=1.5)
    )
    output.loss.backward()
    assert set(output.metrics) == {"average_error", "velocity_error"}
    unused = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert not unused
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_predicts_the_only_image_there_is_has_no_error(family: str) -> None:
    """Where all data are one image m, u(x, t, r) = (m - x) / (1 - t) whatever r is: the network's answer is m."""
    model, m = make(family, **SAMPLE), 0.7
    with torch.no_grad():
        for parameter in model.final_layer.parameters():
            parameter.zero_()
        model.final_layer.linear.bias.fill_(m)
    data, noise = torch.full((4, 2, 1, 8, 8), m), images(4, 2)
    t = torch.tensor([[0.0, 0.3], [0.3, 0.6], [0.6, 0.9], [0.1, 0.9]])  # below 1 - LEAST_SIGMA
    noised, labels = noise_at(data, noise, t), torch.tensor([[0, 0], [1, 1], [2, 2], [3, 3]])
    for r in (t, t + (1 - t) / 2, torch.ones_like(t)):
        rows = Rows(noised.x_t, noised.target, t, r, labels)
        errors = _errors(call_of(family, model), rows, 3, MeanFlowConfig(), spans=True)
        # Squares of float32 roundings, of velocities of about 10 and derivatives 1 / (1 - t) times as large.
        torch.testing.assert_close(errors, torch.zeros(8), atol=1e-8, rtol=0.0)
    sample = __import__(f"flowgression.families.{family}.sampling", fromlist=["sample"]).sample
    drawn = sample(model, noise[:, 0], labels[:, 0], num_inference_steps=1).sample
    torch.testing.assert_close(drawn, data[:, 0])


@pytest.mark.parametrize("prediction", ["velocity", "sample"])
@pytest.mark.parametrize("path_name", ["linear", "gvp"])
def test_the_averages_of_gaussian_data_are_learned(path_name: str, prediction: str) -> None:
    """Data N(0, s^2): a point at t is carried to r times the ratio of standard deviations. Where a network gives these
    averages, as velocities or as the images that stand for them, it is right, and nowhere else."""
    path, s = get_path(path_name), 0.5

    def deviation(t: Tensor) -> Tensor:
        c = path.coefficients(t)
        return (c.alpha.square() * s * s + c.sigma.square()).sqrt()

    def average(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        same = r == t
        ratio = (deviation(r) / deviation(t) - 1) / (r - t).masked_fill(same, 1)
        c, squared = path.coefficients(t), deviation(t).square()
        speed = (c.alpha * c.d_alpha * s * s + c.sigma * c.d_sigma) / squared
        return torch.where(same, speed, ratio)[:, None, None, None] * x

    def call(factor: float, x: Tensor, t: Tensor, r: Tensor, labels: Tensor, state: Any) -> tuple[Tensor, Any]:
        u = factor * average(x, t, r)
        if prediction == "velocity":
            return u, None
        a, b = (each[:, None, None, None] for each in path.data_coefficients(t, 0.05))
        image = (u - b * x) / a  # what the network itself would give
        return _as_velocity(image, x, a, b), None

    x, t = images(5).double(), torch.tensor([0.1, 0.2, 0.5, 0.7, 0.97]).double()
    r = torch.tensor([1.0, 0.4, 1.0, 0.7, 0.99]).double()
    v, labels = average(x, t, t), torch.zeros(5, dtype=torch.int64)
    u, target, _ = _along(partial(call, 1.0), Rows(x, v, t, r, labels), None, v, v, spans=True)
    torch.testing.assert_close(u, target, rtol=1e-9, atol=1e-9)
    u, target, _ = _along(partial(call, 1.1), Rows(x, v, t, r, labels), None, v, v, spans=True)
    assert (u - target).abs().amax(dim=(1, 2, 3)).min() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_a_teacher_of_the_same_function_leaves_no_error_at_a_time(family: str, scale: float) -> None:
    """A student whose velocity is the guided one of its teacher is done, whatever pairs of noise and data say."""
    teacher = make(family, average_velocity=False, class_dropout_prob=0.3)
    call, labels = call_of(family, teacher), torch.tensor([[0, 1], [3, 3]])
    x, t = images(2, 2), torch.tensor([[0.2, 0.6]]).expand(2, 2)

    def student(x: Tensor, t: Tensor, r: Tensor, labels: Tensor, state: Any) -> tuple[Tensor, Any]:
        found, state = guided_velocity(Teacher(call, state or (None, None)), Rows(x, x, t, t, labels), 3, scale)
        return found, state

    rows, settings = Rows(x, torch.full_like(x, torch.nan), t, t, labels), MeanFlowConfig(guidance_scale=scale)
    errors = _errors(student, rows, 3, settings, spans=False, teacher=Teacher(call))
    torch.testing.assert_close(errors, torch.zeros(4))
    v, v_null = (call(x[:1, 0], t[:1, 0], t[:1, 0], torch.tensor([label]), None)[0] for label in (0, 3))
    found, _ = guided_velocity(Teacher(call), Rows(*(each[:1, 0] for each in (x, x, t, t, labels))), 3, scale)
    torch.testing.assert_close(found, v_null + scale * (v - v_null))


def test_some_intervals_end_at_the_data() -> None:
    random, t = StepRandomness(0, 0), torch.rand(1000, 1, generator=torch.Generator().manual_seed(0))
    for share in (0.0, 0.3, 1.0):
        begin, end = interval_times(random, t, MeanFlowConfig(end_share=share), 0.9)
        assert torch.equal(begin, t * 0.9)
        assert (end >= begin).all()
        assert end.max() <= torch.tensor(0.9)
        # A share of 1000 draws has a standard deviation of at most 0.016.
        assert abs((end == torch.tensor(0.9)).float().mean().item() - share) < 0.07


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_call_crosses_its_whole_interval(family: str, steps: int) -> None:
    """x + (r - t) u(x, t, r) for each of the steps, and ARFlow's state goes on once a call."""
    model, z, labels = make(family), images(2), torch.tensor([0, 2])
    sample = __import__(f"flowgression.families.{family}.sampling", fromlist=["sample"]).sample
    output = sample(model, z, labels, num_inference_steps=steps)
    assert output.num_calls == steps
    x, state, call = z, None, call_of(family, model)
    times = torch.linspace(0, 1, steps + 1)
    with torch.no_grad():
        for t, r in pairwise(times):
            u, state = call(x, t.expand(2), r.expand(2), labels, state)
            x = x + (r - t) * u
    torch.testing.assert_close(output.sample, x, rtol=1e-4, atol=1e-5)
    if family == "arflow":
        for found, expected in zip(output.state, state, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_solvers_of_several_slopes_take_the_velocity(family: str) -> None:
    """Which is that of intervals of length 0: as of the same model without its interval embedder."""
    model, z, labels = make(family), images(2), torch.tensor([0, 2])
    plain = make(family, average_velocity=False)
    weights = model.state_dict()
    constant = model.interval_embedder(torch.zeros(())).detach()
    weights["t_embedder.mlp.2.bias"] = weights["t_embedder.mlp.2.bias"] + constant
    plain.load_state_dict({name: value for name, value in weights.items() if not name.startswith("interval")})
    sample = __import__(f"flowgression.families.{family}.sampling", fromlist=["sample"]).sample
    found, expected = (sample(each, z, labels, num_inference_steps=3, solver="heun").sample for each in (model, plain))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    euler = sample(model, z, labels, num_inference_steps=3).sample
    assert (euler - sample(plain, z, labels, num_inference_steps=3).sample).abs().max() > 1e-3


FLOWAR = {"hidden_size": 16, "encoder_depth": 1, "decoder_depth": 1, "num_heads": 2, "flow_width": 16, "flow_depth": 1,
          "flow_num_heads": 2, "patch_size": 7, "class_dropout_prob": 0.2}  # fmt: skip


def settings_of(family: str) -> dict[str, Any]:
    """Of `tiny_config`, for families whose models have other sizes."""
    return {"model": ModelConfig(family=family, args=FLOWAR)} if family == "flowar" else {}


@pytest.mark.parametrize("family", [*FAMILIES, "flowar"])
def test_a_run_learns_resumes_and_draws(family: str, tiny_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    whole = tiny_config(
        family, objective="meanflow", meanflow=MeanFlowConfig(guidance_scale=1.5), **settings_of(family)
    )
    train(whole)
    halves = replace(whole, out=str(tmp_path / "halves"))
    train(replace(halves, max_steps=3), allow_changes=True)
    train(halves, resume=True, allow_changes=True)
    one, other = (load_pipeline(Path(config.out) / "pipeline").transformer for config in (whole, halves))
    assert one.config.average_velocity
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    pipe = load_pipeline(Path(whole.out) / "pipeline")
    options = pipe.sampling_options({})
    assert (options.num_inference_steps, options.guidance_scale) == (2, 1.0)
    assert pipe([1, 2], num_inference_steps=1, output_type="np").images.shape == (2, 28, 28, 1)
    assert other.config == {**one.config, "_name_or_path": other.config.get("_name_or_path")}


@pytest.mark.parametrize("family", [*FAMILIES, "flowar"])
def test_a_run_with_a_teacher_resumes_to_the_same_bits(
    family: str, tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    """Its teacher is read again, and is not what the student has become."""
    first = tiny_config(family, out=str(tmp_path / "first"), max_steps=2, **settings_of(family))
    train(first)
    source = ModelConfig(family=family, pretrained=str(tmp_path / "first/pipeline"))
    settings = MeanFlowConfig(guidance_scale=1.5, interval_share=1.0, end_share=0.5, teacher=True)
    whole = tiny_config(family, objective="meanflow", meanflow=settings, model=source)
    train(whole)
    halves = replace(whole, out=str(tmp_path / "halves"))
    train(replace(halves, max_steps=3), allow_changes=True)
    train(halves, resume=True, allow_changes=True)
    one, other = (load_pipeline(Path(config.out) / "pipeline").transformer for config in (whole, halves))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_fine_tuning_begins_with_the_velocity(
    family: str, tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    train(tiny_config(family, out=str(tmp_path / "first"), max_steps=2))
    source = str(tmp_path / "first/pipeline")
    tuned = tiny_config(
        family,
        objective="meanflow",
        model=ModelConfig(family=family, pretrained=source),
        max_steps=1,
        optimizer=replace(tiny_config().optimizer, lr=1e-30, weight_decay=0.0),
    )
    train(tuned)
    first, second = (load_pipeline(each).transformer for each in (source, Path(tuned.out) / "pipeline"))
    x = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    x, t = (x, torch.tensor([0.2, 0.7])) if family == "sit" else (x[:, None], torch.tensor([[0.2], [0.7]]))
    labels = torch.tensor([3, 10])
    with torch.no_grad():
        expected = first(x, t, labels).velocity
        for r in (t, torch.ones_like(t)):
            torch.testing.assert_close(second(x, t, labels, r=r).velocity, expected, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_is_refused(tiny_config: Callable[..., TrainConfig]) -> None:
    with pytest.raises(
        InputError, match="family hofar do not learn average velocities; families that do: arflow, sit, flowar"
    ):
        tiny_config("hofar", objective="meanflow")
    with pytest.raises(InputError, match="precision='bf16' cannot be combined"):
        tiny_config("sit", objective="meanflow", precision="bf16")
    with pytest.raises(InputError, match=r"meanflow=.* must be nothing without objective=meanflow"):
        tiny_config("sit", meanflow=MeanFlowConfig(guidance_scale=2.0))
    with pytest.raises(InputError, match=r"takes its velocities from model\.pretrained"):
        tiny_config("sit", objective="meanflow", meanflow=MeanFlowConfig(teacher=True))
    with pytest.raises(InputError, match=r"meanflow\.end_share=1\.5"):
        MeanFlowConfig(end_share=1.5)
    with pytest.raises(InputError, match=r"meanflow\.guidance_scale=0\.5"):
        MeanFlowConfig(guidance_scale=0.5)
    with pytest.raises(InputError, match="needs a null label"):
        find_family("sit").average_objective_function(
            make("sit", class_dropout_prob=0.0), images(2), torch.tensor([0, 1]), StepRandomness(0, 0),
            settings=MeanFlowConfig(guidance_scale=2.0),
        )  # fmt: skip
    model = make("sit", average_velocity=False)
    with pytest.raises(InputError, match="average_velocity=False"):
        model(images(1), torch.zeros(1), torch.tensor([0]), r=torch.ones(1))
    with pytest.raises(InputError, match="r must have the shape of t"):
        make("sit")(images(1), torch.zeros(1), torch.tensor([0]), r=torch.ones(2))
