"""The ARFlow sampler against the released samples, against a plain loop, and its promises about the state."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from flowgression import InputError
from flowgression.families.arflow.released import load_released
from flowgression.families.arflow.sampling import sample
from tests.families.golden import Golden


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden("arflow_dev")


@pytest.mark.parametrize(("case", "guided"), [("nocfg", False), ("cfg", True)])
def test_released_sde_samples(golden: Golden, case: str, guided: bool) -> None:
    settings = golden.json("config")
    z = golden["z"]
    output = sample(
        load_released(golden.weights(), num_classes=10),
        z,
        golden["y"],
        solver="sde",
        num_inference_steps=settings["steps"],
        noise=golden[f"noise_{case}"][:, : len(z)],  # the first half of a doubled batch is the class half
        guidance_scale=settings["cfg"] if guided else 1.0,
        guided_channels=3 if guided else None,
        diffusion=settings["diffusion"],
        last_step_size=settings["last_step_size"],
    )
    assert output.num_calls == settings["steps"]
    torch.testing.assert_close(output.sample, golden[f"sde_{case}"][: len(z)], atol=2e-5, rtol=0)


@pytest.fixture
def model(make_model: Callable[..., Any]) -> Any:
    return make_model("arflow")


@pytest.fixture
def z() -> Tensor:
    return torch.randn(3, 1, 6, 4, generator=torch.Generator().manual_seed(1))


LABELS = torch.tensor([1, 5, 1])


class Recorder:
    """Stands in for a model and writes down its calls."""

    def __init__(self, model: Any):
        self.model, self.calls = model, []
        self.config, self.dtype = model.config, model.dtype
        self.prepare, self.prepared_sizes = model.prepare, model.prepared_sizes
        self.new_state = model.new_state

    def __call__(self, x: Tensor, *, state: Any, return_state: bool, prepared: Tensor) -> Any:
        output = self.model(x, state=state, return_state=return_state, prepared=prepared)
        self.calls.append({"x": x, "prepared": prepared, "state": state, "output": output})
        return output


@torch.no_grad()
def test_euler_is_one_call_per_step_with_the_state_of_the_step_before(model: Any, z: Tensor) -> None:
    recorder = Recorder(model)
    output = sample(recorder, z, LABELS, num_inference_steps=4)
    x, state = z, None
    for step in range(4):
        answer = model(x[:, None], torch.full((3, 1), step / 4), LABELS, state)
        x, state = x + answer.velocity[:, 0] / 4, answer.state
    torch.testing.assert_close(output.sample, x)
    assert output.num_calls == len(recorder.calls) == 4
    assert [call["x"].shape[1] for call in recorder.calls] == [1] * 4
    assert all(not state.any() for state in recorder.calls[0]["state"])
    for before, after in zip(recorder.calls, recorder.calls[1:], strict=False):
        assert after["state"] is before["output"].state


def test_the_state_matters_here(model: Any, z: Tensor, make_model: Callable[..., Any]) -> None:
    alone = make_model("arflow", context="none")
    alone.load_state_dict(model.state_dict())
    with_state, without = (sample(m, z, LABELS, num_inference_steps=4).sample for m in (model, alone))
    assert (with_state - without).abs().max() > 1e-3


def test_heun_evaluates_twice_and_advances_once(model: Any, z: Tensor) -> None:
    recorder = Recorder(model)
    output = sample(recorder, z, LABELS, solver="heun", num_inference_steps=3)
    assert output.num_calls == len(recorder.calls) == 5  # the last step is Euler's
    for step in range(2):
        first, second = recorder.calls[2 * step : 2 * step + 2]
        assert second["state"] is first["state"]
    for step in (1, 2):
        assert recorder.calls[2 * step]["state"] is recorder.calls[2 * step - 2]["output"].state
    assert output.state is recorder.calls[4]["output"].state
    assert sample(model, z, LABELS, solver="heun", num_inference_steps=3, last_step="heun").num_calls == 6


def test_trained_on_single_images_it_has_no_state(
    make_model: Callable[..., Any], z: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    from flowgression.families.arflow.sampling import _say_once

    _say_once.cache_clear()
    single, alone = make_model("arflow", sequence_length=1), make_model("arflow", context="none")
    for _ in range(2):
        output = sample(single, z, LABELS, num_inference_steps=4, guidance_scale=2.0)
    # The first image of a sequence attends to itself alone, whatever the context.
    torch.testing.assert_close(
        output.sample, sample(alone, z, LABELS, num_inference_steps=4, guidance_scale=2.0).sample, atol=1e-5, rtol=0
    )
    assert output.state is None
    assert [record.message for record in caplog.records].count(caplog.records[0].message) == 1
    assert "sampled without a state" in caplog.text
    assert sample(single, z, LABELS, solver="dopri5").num_calls > 6


@torch.no_grad()
def test_guidance_doubles_the_batch_and_keeps_two_states(model: Any, z: Tensor) -> None:
    """Both halves advance on their own, outside the interval too, where the class half alone counts."""
    recorder = Recorder(model)
    output = sample(recorder, z, LABELS, num_inference_steps=4, guidance_scale=2.0, guidance_interval=(0.3, 1.0))
    null = torch.full_like(LABELS, model.config.num_classes)
    x, state, null_state = z, None, None
    for step in range(4):
        t = torch.full((3, 1), step / 4)
        own, unconditional = model(x[:, None], t, LABELS, state), model(x[:, None], t, null, null_state)
        state, null_state = own.state, unconditional.state
        v, v_null = own.velocity[:, 0], unconditional.velocity[:, 0]
        x = x + (v if step / 4 < 0.3 else v_null + 2.0 * (v - v_null)) / 4
    torch.testing.assert_close(output.sample, x, atol=1e-5, rtol=0)
    assert output.num_calls == 4
    for step, call in enumerate(recorder.calls):
        assert len(call["x"]) == 3  # both halves read the same images
        (expected,) = model.prepare(torch.tensor([step / 4]), torch.tensor([1, 5, 1, 8, 8, 8]))
        torch.testing.assert_close(call["prepared"], expected, atol=1e-5, rtol=0)


def test_scale_one_runs_one_half(model: Any, z: Tensor) -> None:
    recorder = Recorder(model)
    sample(recorder, z, LABELS, num_inference_steps=2, guidance_scale=1.0)
    assert [len(call["x"]) for call in recorder.calls] == [3, 3]


def state_size(state: Any) -> int:
    """Numbers in all tensors of a state, however it nests them."""
    if isinstance(state, Tensor):
        return state.numel()
    return sum(state_size(entry) for entry in state or ())


@pytest.mark.parametrize(("context", "grows"), [("hybrid", False), ("linear", False), ("full", True)])
def test_size_of_the_state(make_model: Callable[..., Any], z: Tensor, context: str, grows: bool) -> None:
    model = make_model("arflow", context=context)
    few, many = (state_size(sample(model, z, LABELS, num_inference_steps=n).state) for n in (2, 12))
    assert (many == 6 * few) if grows else (many == few)


def test_half_precision_model_with_a_float32_sample(make_model: Callable[..., Any], model: Any, z: Tensor) -> None:
    half = make_model("arflow").to(torch.bfloat16)
    output = sample(half, z, LABELS, num_inference_steps=8).sample
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, sample(model, z, LABELS, num_inference_steps=8).sample, atol=0.1, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"solver": "dopri5"}, "'dopri5' goes back and forth in time"),
        ({"solver": "eular"}, "did you mean 'euler'"),
        ({"solver": "sde"}, "an SDE needs noise="),
        ({"noise": [torch.zeros(3, 1, 6, 4)]}, "uses no noise"),
        ({"diffusion": "sigma"}, "solver 'euler' has no option 'diffusion'"),
        ({"solver": "sde", "noise": lambda step: 0, "difusion": "sigma"}, "did you mean 'diffusion'"),
        ({"num_inference_steps": 0}, "num_inference_steps must be an integer >= 1"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be a finite number"),
        ({"class_labels": torch.tensor([1, 9, 1])}, "class label 9 is out of range: 0 to 7, or the null label 8"),
        ({"class_labels": torch.tensor([1, 2])}, r"class_labels must be int64 of shape \[3\]"),
        ({"z": torch.zeros(3, 2, 6, 4)}, r"z must be noise \[B, 1, H, W\]"),
        ({"z": torch.zeros(0, 1, 6, 4), "class_labels": torch.zeros(0, dtype=torch.int64)}, "B >= 1"),
        ({"times": [0.0, 0.5, 0.4]}, "strictly rising or strictly falling"),
    ],
)
def test_wrong_input(model: Any, z: Tensor, arguments: dict[str, Any], message: str) -> None:
    recorder = Recorder(model)
    with pytest.raises(InputError, match=message):
        sample(recorder, **{"z": z, "class_labels": LABELS, **arguments})
    assert not recorder.calls


def test_guidance_without_a_null_label(make_model: Callable[..., Any], z: Tensor) -> None:
    model = make_model("arflow", class_dropout_prob=0.0)
    with pytest.raises(InputError, match="trained without a null label"):
        sample(model, z, LABELS, guidance_scale=1.5)
    assert sample(model, z, LABELS, num_inference_steps=2).sample.shape == z.shape
