"""What a denoising step of ARFlow reads of the steps before it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from flowgression import InputError
from flowgression.cli.sample import make_parser
from flowgression.families.arflow.sampling import sample
from flowgression.families.sit.sampling import sample as sample_sit
from flowgression.sampling.options import History, parse_history
from tests.families.arflow.test_sampling import LABELS, Recorder

GUIDED = {"num_inference_steps": 6, "guidance_scale": 2.0, "guidance_interval": (0.3, 0.9)}


@pytest.fixture(params=["hybrid", "linear", "full"])
def model(make_model: Callable[..., Any], request: pytest.FixtureRequest) -> Any:
    return make_model("arflow", context=request.param)


@pytest.fixture
def z() -> Tensor:
    return torch.randn(3, 1, 6, 4, generator=torch.Generator().manual_seed(1))


def test_spellings() -> None:
    assert parse_history(None) == parse_history("all") == History("all")
    assert [str(parse_history(text)) for text in ("none", "every:4", "last:1")] == ["none", "every:4", "last:1"]
    for wrong in ("every", "last:0", "every:-1", "last:2.5", "some", "every:4 ", ""):
        with pytest.raises(InputError, match=r"history must be all, none, every:K .* with K >= 1, not"):
            parse_history(wrong)
    assert make_parser().parse(["--history", "every:4"]).history == "every:4"


@pytest.mark.parametrize("solver", ["euler", "heun", "sde"])
def test_two_ways_to_read_everything(model: Any, z: Tensor, solver: str) -> None:
    noise = {"noise": lambda step: torch.zeros_like(z)} if solver == "sde" else {}
    draw = lambda **more: sample(model, z, LABELS, solver=solver, **GUIDED, **noise, **more)  # noqa: E731
    everything = draw()
    assert torch.equal(draw(history="all").sample, everything.sample)
    assert torch.equal(draw(history="every:1").sample, everything.sample)
    folded = draw(history="last:7")  # the SDE takes a step more
    torch.testing.assert_close(folded.sample, everything.sample, atol=1e-5, rtol=0)
    assert folded.num_calls == everything.num_calls


@torch.no_grad()
@pytest.mark.parametrize("context", ["hybrid", "full"])
@pytest.mark.parametrize(
    ("history", "read"),
    [
        ("every:2", lambda step: range(0, step, 2)),
        ("every:4", lambda step: range(0, step, 4)),
        ("last:2", lambda step: range(max(0, step - 2), step)),
        ("last:1", lambda step: range(max(0, step - 1), step)),
        ("none", lambda step: ()),
    ],
)
def test_against_a_plain_loop(
    make_model: Callable[..., Any], z: Tensor, context: str, history: str, read: Callable[[int], Any]
) -> None:
    """At every step the images that are read are one sequence with the present one."""
    model = make_model("arflow", context=context)
    xs, times = [z], torch.arange(6) / 6
    for step in range(6):
        shown = [*read(step), step]
        images = torch.stack([xs[index] for index in shown], dim=1)
        xs.append(xs[-1] + model(images, times[shown].expand(3, -1), LABELS).velocity[:, -1] / 6)
    found = sample(model, z, LABELS, num_inference_steps=6, history=history).sample
    torch.testing.assert_close(found, xs[-1], atol=1e-5, rtol=0)


def test_none_starts_each_step_from_nothing(model: Any, z: Tensor, make_model: Callable[..., Any]) -> None:
    recorder = Recorder(model)
    output = sample(recorder, z, LABELS, history="none", **GUIDED)
    assert all(call["state"] is None for call in recorder.calls)
    assert output.state is None
    assert [len(call["prepared"]) for call in recorder.calls] == [3, 3, 6, 6, 6, 6]  # the null half where it counts
    if model.config.context != "linear":  # which has no softmax inside of an image either
        alone = make_model("arflow", context="none")
        alone.load_state_dict(model.state_dict())
        torch.testing.assert_close(output.sample, sample(alone, z, LABELS, **GUIDED).sample, atol=1e-5, rtol=0)
    assert sample(model, z, LABELS, history="none", solver="dopri5").num_calls > 6
    with pytest.raises(InputError, match="goes back and forth in time"):
        sample(model, z, LABELS, history="every:3", solver="dopri5")


def test_heun_advances_once_a_step(model: Any, z: Tensor) -> None:
    recorder = Recorder(model)
    sample(recorder, z, LABELS, history="every:2", solver="heun", num_inference_steps=4)
    first = recorder.calls[0]["output"].state
    assert all(call["state"] is first for call in recorder.calls[2:6])
    recorder = Recorder(model)
    sample(recorder, z, LABELS, history="last:2", solver="heun", num_inference_steps=4)
    assert [call["x"].shape[1] for call in recorder.calls] == [1, 1, 2, 2, 3, 3, 3]


@pytest.mark.parametrize("history", ["every:2", "last:2", "none"])
def test_an_image_does_not_depend_on_its_batch(make_pipeline: Callable[..., Any], history: str) -> None:
    pipe = make_pipeline("arflow")
    settings = {"num_inference_steps": 5, "history": history, "output_type": "latent", "guidance_scale": 2.0}
    seeded = [torch.Generator().manual_seed(seed) for seed in range(3)]
    together = pipe([3, "seven", 3], generator=seeded, **settings).images
    for row, label in enumerate([3, 7, 3]):
        alone = pipe(label, generator=[torch.Generator().manual_seed(row)], **settings).images
        torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=0)
    assert (together - pipe([3, 7, 3], generator=seeded, **settings | {"history": "all"}).images).abs().max() > 1e-3


def test_models_without_a_history(make_model: Callable[..., Any], make_pipeline: Callable[..., Any], z: Tensor) -> None:
    for wrong, why in [({"context": "none"}, "has context='none'"), ({"sequence_length": 1}, "on single images")]:
        recorder = Recorder(make_model("arflow", **wrong))
        with pytest.raises(InputError, match=f"history=last:2 reads earlier steps, but this ARFlow .*{why}"):
            sample(recorder, z, LABELS, history="last:2")
        assert not recorder.calls
        assert torch.isfinite(sample(recorder, z, LABELS, history="none", num_inference_steps=2).sample).all()
    reason = "option 'history' is of ARFlow, whose denoising steps read the steps before them"
    with pytest.raises(InputError, match=reason):
        make_pipeline("sit")(3, history="none")
    with pytest.raises(InputError, match=reason):
        sample_sit(make_model("sit"), z, LABELS, history="none")
