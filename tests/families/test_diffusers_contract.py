"""What diffusers' common tests of models and pipelines ask for, of every family: docs/testing.md has the table."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers.utils.torch_utils import randn_tensor

from flowgression import InputError
from flowgression.sampling import make_pipeline
from tests.families.cases import SIDE, FamilyCase, every_family

QUICK = {"num_inference_steps": 2, "output_type": "np"}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pipeline(case: FamilyCase) -> Any:
    pipe = make_pipeline(case.model())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def inputs(case: FamilyCase) -> dict[str, Any]:
    """Of a call of the model, by diffusers' names."""
    shape = (2, 1, SIDE, SIDE)
    noisy = torch.randn(shape, generator=seeded())
    if case.description.draws_scales:
        return {"hidden_states": noisy, "class_labels": torch.tensor([1, 2])}
    noisy = noisy[:, None] if case.description.reads_sequences else noisy
    return {"hidden_states": noisy, "timestep": torch.tensor(0.3), "class_labels": torch.tensor([1, 2])}


def first(output: Any) -> torch.Tensor:
    found = output[0]
    return found[0] if isinstance(found, list) else found


@every_family
@torch.no_grad()
def test_models(case: FamilyCase) -> None:
    """Names, tuples, times of no dimension or one for each image; the same output twice; training and gradients."""
    model, given = case.model(), inputs(case)
    output = model(**given)
    tuples = model(**given, return_dict=False)
    assert isinstance(tuples, tuple)
    assert torch.equal(first(tuples), first(output))
    if "timestep" in given:
        per_image = model(**{**given, "timestep": torch.full((2,), 0.3)})
        assert torch.equal(per_image.sample, output.sample)
        ours = model(given["hidden_states"], torch.full(given["hidden_states"].shape[:-3], 0.3), given["class_labels"])
        assert torch.equal(ours.velocity, output.sample)
        with pytest.raises(InputError, match="two names of one argument"):
            model(given["hidden_states"], **given)
    with pytest.raises(InputError, match="as diffusers calls them"):
        model(class_labels=given["class_labels"])


@every_family
@torch.no_grad()
def test_layerwise_casting(case: FamilyCase) -> None:
    """Weights kept in float8, or bfloat16, and computed with in float32: what the model gives of such weights."""
    for storage in (torch.float8_e4m3fn, torch.bfloat16):
        model, given = case.model(), inputs(case)
        model.enable_layerwise_casting(storage_dtype=storage, compute_dtype=torch.float32)
        kept = {name: p.dtype for name, p in model.named_parameters()}
        assert storage in kept.values()
        found = first(model(**given))
        assert found.dtype == torch.float32
        assert found.isfinite().all()
        assert {name: p.dtype for name, p in model.named_parameters()} == kept


@every_family
def test_generators(case: FamilyCase) -> None:
    pipe = pipeline(case)
    alone = pipe(3, generator=seeded(), **QUICK).images
    np.testing.assert_array_equal(alone, pipe(3, generator=[seeded()], **QUICK).images)
    if not case.description.draws_scales:  # whose first noise is that of its first scale
        latents = randn_tensor((3, 1, SIDE, SIDE), generator=seeded())
        whole = pipe([3, 1, 2], generator=seeded(), **QUICK).images
        np.testing.assert_array_equal(whole, pipe([3, 1, 2], latents=latents, **QUICK).images)


@every_family
def test_latents_and_images_per_label(case: FamilyCase) -> None:
    pipe = pipeline(case)
    latents = torch.randn(4, 1, SIDE, SIDE, generator=seeded())
    found = pipe([3, 1], num_images_per_prompt=2, latents=latents, generator=seeded(), **QUICK).images
    assert found.shape == (4, SIDE, SIDE, 1)
    np.testing.assert_array_equal(found, pipe([3, 3, 1, 1], latents=latents, generator=seeded(), **QUICK).images)
    other = pipe([3, 3, 1, 1], latents=-latents, generator=seeded(), **QUICK).images
    assert np.abs(found - other).max() > 0
    for wrong in ({"latents": latents[:2]}, {"num_images_per_prompt": 0}):
        with pytest.raises(InputError):
            pipe([3, 3, 1, 1], **wrong, **QUICK)
    assert isinstance(pipe(1, return_dict=False, **QUICK), tuple)


@every_family
def test_callbacks(case: FamilyCase) -> None:
    """Called after every step, told what runs; what it returns is taken over; it can stop."""
    pipe, calls = pipeline(case), []
    plain = pipe(1, generator=seeded(), guidance_scale=1.5, **QUICK).images

    def watch(pipe: Any, step: int, timestep: float, tensors: dict[str, Any]) -> dict[str, Any]:
        calls.append((step, timestep, pipe.num_timesteps, pipe.guidance_scale, pipe.do_classifier_free_guidance))
        assert list(tensors) == ["latents"]
        return tensors

    watched = pipe(1, generator=seeded(), guidance_scale=1.5, callback_on_step_end=watch, **QUICK).images
    np.testing.assert_array_equal(watched, plain)
    count = pipe.num_timesteps
    assert [call[0] for call in calls] == list(range(count))
    assert count == (3 if case.description.draws_scales else 2)
    assert calls[-1][1] == pytest.approx(0, abs=1e-4)
    assert {call[2:] for call in calls} == {(count, 1.5, True)}

    def clear(pipe: Any, step: int, timestep: float, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"latents": torch.zeros_like(tensors["latents"])} if step == count - 1 else {}

    cleared = pipe(1, generator=seeded(), callback_on_step_end=clear, num_inference_steps=2, output_type="latent")
    assert cleared.images.abs().max() == 0

    def stop(pipe: Any, step: int, timestep: float, tensors: dict[str, Any]) -> dict[str, Any]:
        pipe._interrupt = True
        steps.append(step)
        return tensors

    steps: list[int] = []
    stopped = pipe(1, generator=seeded(), callback_on_step_end=stop, **QUICK).images
    assert steps == [0]
    assert len(stopped) == 1
    np.testing.assert_array_equal(pipe(1, generator=seeded(), guidance_scale=1.5, **QUICK).images, plain)
    with pytest.raises(InputError, match="tensor_inputs: 'prompt_embeds'"):
        pipe(1, callback_on_step_end=watch, callback_on_step_end_tensor_inputs=["prompt_embeds"], **QUICK)


@every_family
def test_sigmas_and_timesteps(case: FamilyCase) -> None:
    if case.description.draws_scales:
        pytest.skip("each scale has a grid of its own")
    pipe = pipeline(case)
    times = pipe(1, generator=seeded(), times=[0, 0.5, 1.0], output_type="np").images
    for given in ({"sigmas": [1.0, 0.5]}, {"sigmas": [1.0, 0.5, 0.0]}, {"timesteps": [1000, 500]}):
        np.testing.assert_array_equal(pipe(1, generator=seeded(), output_type="np", **given).images, times)
    for wrong in ({"sigmas": [1.0], "timesteps": [1000]}, {"sigmas": [1.0], "times": [0, 1]}):
        with pytest.raises(InputError, match="give one of them"):
            pipe(1, **wrong)


@every_family
def test_from_pipe_and_components(case: FamilyCase) -> None:
    pipe = pipeline(case)
    again = type(pipe).from_pipe(pipe)
    assert again.transformer is pipe.transformer
    rebuilt = type(pipe)(**pipe.components)
    for other in (again, rebuilt):
        other.set_progress_bar_config(disable=True)
        np.testing.assert_array_equal(
            pipe(1, generator=seeded(), **QUICK).images, other(1, generator=seeded(), **QUICK).images
        )
