"""diffusers' flow-matching schedulers in place of our solvers."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    UniPCMultistepScheduler,
)

from flowgression import InputError, load_pipeline, make_pipeline
from tests.families.flowar.cases import small_model

FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
MULTISTEP = [UniPCMultistepScheduler, DPMSolverMultistepScheduler]


def seeded() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in (0, 1)]


def draw(pipe: Any, **settings: Any) -> torch.Tensor:
    pipe.set_progress_bar_config(disable=True)
    return pipe([1, 2], generator=seeded(), output_type="latent", **settings).images


def test_flow_match_euler_is_our_euler(make_pipeline: Callable[..., Any], family: str) -> None:
    pipe = make_pipeline(family)
    expected = draw(pipe, num_inference_steps=8, guidance_scale=2.0)
    pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    torch.testing.assert_close(draw(pipe, num_inference_steps=8, guidance_scale=2.0), expected, atol=1e-6, rtol=1e-6)
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    assert (draw(pipe, num_inference_steps=8, guidance_scale=2.0) - expected).abs().max() > 1e-3
    pipe.scheduler = None
    assert torch.equal(draw(pipe, num_inference_steps=8, guidance_scale=2.0), expected)


def test_every_scale_of_flowar_is_walked() -> None:
    pipe = make_pipeline(small_model("six"))
    expected = draw(pipe, num_inference_steps=8)
    pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    torch.testing.assert_close(draw(pipe, num_inference_steps=8), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", MULTISTEP)
def test_multistep_schedulers_come_nearer_to_the_flow(make_pipeline: Callable[..., Any], kind: type) -> None:
    """As many calls as Euler's, and nearer to the exact flow: they are of second order."""
    pipe = make_pipeline("sit")
    exact = draw(pipe, solver="dopri5", guidance_scale=1.0)
    euler = (draw(pipe, num_inference_steps=20, guidance_scale=1.0) - exact).abs().max()
    pipe.scheduler = kind(**FLOW)
    assert (draw(pipe, num_inference_steps=20, guidance_scale=1.0) - exact).abs().max() < euler


@pytest.mark.parametrize("scheduler", [FlowMatchEulerDiscreteScheduler(), *(kind(**FLOW) for kind in MULTISTEP)])
def test_the_state_is_advanced_once_a_step(
    make_pipeline: Callable[..., Any], scheduler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, states = make_pipeline("arflow"), []
    forward = type(pipe.transformer).forward

    def recorded(self: Any, x: Any, *, state: Any, **named: Any) -> Any:
        output = forward(self, x, state=state, **named)
        states.append((state, output.state))
        return output

    monkeypatch.setattr(type(pipe.transformer), "forward", recorded)
    pipe.scheduler = scheduler
    output = pipe([1], num_inference_steps=5, output_type="latent", return_trajectory=True)
    assert len(states) == 5
    assert all(not state.any() for state in states[0][0])
    assert all(after[0] is before[1] for before, after in pairwise(states))
    assert len(output.trajectory) == 6


def test_a_scheduler_is_saved_with_its_pipeline(make_pipeline: Callable[..., Any], tmp_path: Path) -> None:
    pipe = make_pipeline("sit")
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=2.0)
    pipe.save_pretrained(tmp_path / "model")
    loaded = load_pipeline(tmp_path / "model")
    assert loaded.scheduler.config.shift == 2.0
    torch.testing.assert_close(draw(loaded, num_inference_steps=3), draw(pipe, num_inference_steps=3))
    assert pipe.sampling_options({}).facts()["solver"] == "FlowMatchEulerDiscreteScheduler"


@pytest.mark.parametrize(
    ("scheduler", "settings", "message"),
    [
        (DDIMScheduler(), {}, "DDIMScheduler does not walk a flow"),
        (UniPCMultistepScheduler(), {}, "UniPCMultistepScheduler does not walk a flow"),
        (FlowMatchHeunDiscreteScheduler(), {}, "does not walk a flow"),
        (FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), {}, "leave both off"),
        (FlowMatchEulerDiscreteScheduler(), {"solver": "heun"}, "solver and pipe.scheduler cannot be combined"),
        (FlowMatchEulerDiscreteScheduler(), {"times": [0.0, 1.0]}, "times and pipe.scheduler cannot be combined"),
        (FlowMatchEulerDiscreteScheduler(), {"num_inference_steps": 0}, "num_inference_steps must be an integer >= 1"),
    ],
)
def test_mistakes(make_pipeline: Callable[..., Any], scheduler: Any, settings: dict[str, Any], message: str) -> None:
    pipe = make_pipeline("sit")
    pipe.scheduler = scheduler
    with pytest.raises(InputError, match=message):
        draw(pipe, **settings)


def test_schedulers_know_the_linear_path_alone(make_pipeline: Callable[..., Any]) -> None:
    pipe = make_pipeline("sit", path="gvp")
    pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    with pytest.raises(InputError, match="trained on 'gvp'"):
        draw(pipe)
