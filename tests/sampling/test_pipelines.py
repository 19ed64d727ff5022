"""The call of ARFlowPipeline and SiTPipeline: labels, outputs, randomness, trajectories."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.utils.torch_utils import randn_tensor

from flowgression import ARFlowPipeline, InputError, SiTPipeline


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pipe(make_pipeline: Callable[..., Any], family: str) -> Any:
    return make_pipeline(family)


SOLVERS = [("arflow", "euler"), ("arflow", "heun"), ("arflow", "sde"), ("sit", "euler"), ("sit", "sde")]


@pytest.mark.parametrize(("family", "solver"), SOLVERS)
def test_an_image_does_not_depend_on_its_batch(make_pipeline: Callable[..., Any], family: str, solver: str) -> None:
    pipe = make_pipeline(family)
    settings = {"num_inference_steps": 5, "solver": solver, "output_type": "latent"}
    together = pipe([3, "seven", 3, 0, 1], generator=[seeded(i) for i in range(5)], **settings).images
    for row, label in enumerate([3, 7, 3, 0, 1]):
        alone = pipe(label, generator=[seeded(row)], **settings).images
        torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=0)
    assert (together[0] - together[2]).abs().max() > 0.1  # same class, other noise


def test_one_generator_alone_or_in_a_list_is_the_same(pipe: Any) -> None:
    settings = {"num_inference_steps": 3, "output_type": "latent", "solver": "sde"}
    assert torch.equal(pipe(2, generator=seeded(), **settings).images, pipe(2, generator=[seeded()], **settings).images)
    latents = randn_tensor((3, 1, 6, 4), generator=seeded())  # one for a batch: what diffusers draws
    euler = {"num_inference_steps": 3, "output_type": "latent"}
    whole = pipe([1, 2, 3], generator=seeded(), **euler).images
    assert torch.equal(whole, pipe([1, 2, 3], latents=latents, **euler).images)


def test_output_types(pipe: Any) -> None:
    def images(output_type: str) -> Any:
        return pipe([1, 2], num_inference_steps=2, generator=seeded(), output_type=output_type).images

    latent, pt, array, pictures = (images(name) for name in ("latent", "pt", "np", "pil"))
    assert latent.shape == pt.shape == (2, 1, 6, 4)
    assert latent.min() < -1
    torch.testing.assert_close(pt, (latent / 2 + 0.5).clamp(0, 1))
    np.testing.assert_array_equal(array, pt.permute(0, 2, 3, 1).numpy())
    assert [(picture.mode, picture.size) for picture in pictures] == [("L", (4, 6))] * 2
    np.testing.assert_array_equal(np.asarray(pictures[1]), (array[1, ..., 0] * 255).round())


def test_colour_pictures(make_pipeline: Callable[..., Any]) -> None:
    picture = make_pipeline("sit", in_channels=3)(1, num_inference_steps=1).images[0]
    assert (picture.mode, picture.size) == ("RGB", (4, 6))


def test_tuple_output(pipe: Any) -> None:
    assert len(pipe(1, num_inference_steps=1, return_dict=False)) == 1
    images, trajectory = pipe(1, num_inference_steps=1, return_dict=False, return_trajectory=True)
    assert (len(images), len(trajectory)) == (1, 2)


@pytest.mark.parametrize(("solver", "entries"), [("euler", 7), ("heun", 7), ("sde", 7)])
def test_trajectory_goes_from_the_noise_to_the_result(pipe: Any, solver: str, entries: int) -> None:
    noise = torch.randn(2, 1, 6, 4, generator=seeded())
    settings = {"num_inference_steps": 6, "solver": solver, "latents": noise, "output_type": "latent"}
    output = pipe([1, 2], return_trajectory=True, generator=seeded(1), **settings)
    assert len(output.trajectory) == entries
    assert torch.equal(output.trajectory[0], noise)
    assert torch.equal(output.trajectory[-1], output.images)
    short = pipe([1, 2], return_trajectory=3, generator=seeded(1), **settings).trajectory
    assert len(short) == 3
    for entry, index in zip(short, (0, 3, 6), strict=True):
        assert torch.equal(entry, output.trajectory[index])
    pictures = pipe([1], num_inference_steps=2, return_trajectory=True).trajectory
    assert [entry[0].mode for entry in pictures] == ["L"] * 3


def test_class_names(pipe: Any) -> None:
    assert pipe.get_label_ids(["seven", "nought", "zero"]) == [7, 0, 0]
    assert pipe.get_label_ids("seven") == [7]
    assert pipe.class_names == ["zero", "one", "two", "three", "four", "five", "six", "seven"]
    assert pipe.class_ids(torch.tensor([1, 2])) == [1, 2]
    by_name, by_id = (
        pipe(labels, num_inference_steps=2, generator=seeded(), output_type="np").images for labels in ("two", [2])
    )
    np.testing.assert_array_equal(by_name, by_id)


def test_progress_bar(make_pipeline: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    pipe = make_pipeline("arflow")
    pipe.set_progress_bar_config(desc="drawing")
    pipe(1, num_inference_steps=3, solver="sde")
    shown = capsys.readouterr().err
    assert "drawing" in shown
    assert "3/3" in shown


def test_guidance_and_solver_options_arrive(pipe: Any) -> None:
    def images(**arguments: Any) -> torch.Tensor:
        return pipe([1], num_inference_steps=4, generator=seeded(), output_type="latent", **arguments).images

    plain = images(guidance_scale=1.0)
    assert (images(guidance_scale=3.0) - plain).abs().max() > 1e-3
    torch.testing.assert_close(images(guidance_scale=3.0, guidance_interval=(0.9, 1.0)), plain, atol=1e-5, rtol=0)
    small = images(solver="sde", solver_options={"diffusion": "constant", "diffusion_norm": 0.1})
    large = images(solver="sde", solver_options={"diffusion": "constant", "diffusion_norm": 1.0})
    assert (small - large).abs().max() > 1e-2
    torch.testing.assert_close(images(times=[0, 0.25, 0.5, 0.75, 1], guidance_scale=1.0), plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize("diffusion", ["sigma", "linear", "constant", "decreasing", "increasing-decreasing", "sbdm"])
def test_every_diffusion_works_by_name(pipe: Any, diffusion: str) -> None:
    options = {"diffusion": diffusion}
    made = pipe(1, num_inference_steps=4, solver="sde", solver_options=options, output_type="latent").images
    assert made.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_labels": [3, 8]}, "class label 8 is out of range; the model has classes 0 to 7"),
        ({"class_labels": -1}, "class label -1 is out of range"),
        ({"class_labels": "sevn"}, "unknown class name 'sevn': did you mean 'seven'"),
        ({"class_labels": []}, "class_labels is empty"),
        ({"output_type": "pill"}, "did you mean 'pil'"),
        ({"latents": torch.zeros(1, 1, 4, 6)}, r"latents must have shape \[1, 1, 6, 4\]"),
        ({"generator": [seeded(), seeded()]}, "2 generators for 1 images"),
        ({"return_trajectory": 1}, "return_trajectory must be True, False or a number >= 2"),
        ({"solver_options": {"rtol": 1e-3}}, "solver 'euler' has no option 'rtol'"),
    ],
)
def test_wrong_input(pipe: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipe(**{"class_labels": 1, **arguments})


def test_guidance_by_labels_that_training_dropped(make_pipeline: Callable[..., Any], family: str) -> None:
    pipe = make_pipeline(family, class_dropout_prob=1.0)
    with pytest.raises(
        InputError, match="guidance by class label 1, but this model was trained with all labels dropped"
    ):
        pipe([1], guidance_scale=2.0)
    assert pipe([1], guidance_scale=1.0, num_inference_steps=1, output_type="latent").images.isfinite().all()


def test_dopri5(make_pipeline: Callable[..., Any]) -> None:
    assert len(make_pipeline("sit")(1, solver="dopri5").images) == 1
    with pytest.raises(InputError, match="no trajectory"):
        make_pipeline("sit")(1, solver="dopri5", return_trajectory=True)
    with pytest.raises(InputError, match="use 'euler', 'heun', 'midpoint' or 'sde'"):
        make_pipeline("arflow")(1, solver="dopri5")


def test_values_that_are_not_finite_are_an_error(pipe: Any) -> None:
    torch.nn.init.constant_(pipe.transformer.final_layer.linear.bias, float("inf"))
    with pytest.raises(FloatingPointError, match="not finite"):
        pipe(1, num_inference_steps=2)


def test_autoencoder_decodes_what_the_sampler_gives(make_model: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(8,), norm_num_groups=4, latent_channels=4, scaling_factor=0.5, shift_factor=0.25
    ).eval()
    pipe = SiTPipeline(make_model("sit", in_channels=4), vae=vae)
    pipe.set_progress_bar_config(disable=True)
    latents, images = (
        pipe(1, num_inference_steps=2, generator=seeded(), output_type=kind).images for kind in ("latent", "pt")
    )
    with torch.no_grad():
        expected = (vae.decode(latents / 0.5 + 0.25).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(images, expected)


def test_latents_without_an_autoencoder(make_pipeline: Callable[..., Any]) -> None:
    pipe = make_pipeline("sit", in_channels=4)
    with pytest.raises(InputError, match="a latent of 4 channels is no picture"):
        pipe(1)
    assert pipe(1, num_inference_steps=1, output_type="latent").images.shape == (1, 4, 6, 4)


def test_components_that_do_not_fit(make_model: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="ARFlowPipeline needs a ARFlow; got a SiT"):
        ARFlowPipeline(make_model("sit"))
    with pytest.raises(InputError, match="id2label names class 8; the model has classes 0 to 7"):
        SiTPipeline(make_model("sit"), id2label={8: "eight"})
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4)
    with pytest.raises(InputError, match="the autoencoder has 4 latent channels, the model 1"):
        SiTPipeline(make_model("sit"), vae=vae)
    with pytest.raises(InputError, match="this model has no class names"):
        SiTPipeline(make_model("sit")).get_label_ids("seven")
