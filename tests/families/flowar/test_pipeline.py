"""FlowARPipeline: what the call adds to `sample`, saving and loading."""

from pathlib import Path

import pytest
import torch

from flowgression import FlowARPipeline, InputError, load_pipeline, make_pipeline
from flowgression.families.flowar.sampling import sample
from tests.families.flowar.cases import small_model


@pytest.fixture(scope="module")
def pipe() -> FlowARPipeline:
    pipe = make_pipeline(small_model("patches"), id2label={3: "three"})
    assert isinstance(pipe, FlowARPipeline)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def test_the_call_is_sample(pipe: FlowARPipeline) -> None:
    images = pipe([3, 1], num_inference_steps=3, generator=generators(2), output_type="latent").images
    direct = sample(
        pipe.transformer, torch.tensor([3, 1]), num_inference_steps=3, guidance_scale=2.0, generator=generators(2)
    )
    assert torch.equal(images, direct.sample)


def test_trajectory_holds_the_map_of_every_scale(pipe: FlowARPipeline) -> None:
    out = pipe("three", num_inference_steps=2, output_type="pt", return_trajectory=True)
    assert [frame.shape for frame in out.trajectory] == [(1, 1, 14, 14)] * 3
    assert torch.equal(out.trajectory[-1], out.images)
    coarsest = out.trajectory[0][0, 0].reshape(2, 7, 2, 7)  # one patch of 2 x 2 values, each repeated 7 x 7 times
    assert torch.equal(coarsest, coarsest[:, :1, :, :1].expand(2, 7, 2, 7))
    last_two = pipe("three", num_inference_steps=2, return_trajectory=2).trajectory
    assert len(last_two) == 2


def test_stopping_early_gives_small_pictures(pipe: FlowARPipeline) -> None:
    assert pipe(3, num_inference_steps=1, num_scales=2).images[0].size == (6, 6)


def test_variation_keeps_the_coarse_scales(pipe: FlowARPipeline) -> None:
    latents = torch.randn(1, 1, 14, 14, generator=torch.Generator().manual_seed(0))
    out = pipe(
        [3, 3], coarse_latents=latents, num_coarse_scales=2, num_inference_steps=2, output_type="latent",
        generator=generators(2), return_trajectory=True,
    )  # fmt: skip
    assert torch.equal(out.trajectory[1][0], out.trajectory[1][1])
    assert (out.images[0] - out.images[1]).abs().max() > 1e-3


def test_saved_and_loaded_by_name(pipe: FlowARPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "model")
    loaded = load_pipeline(tmp_path / "model")
    loaded.set_progress_bar_config(disable=True)
    assert isinstance(loaded, FlowARPipeline)
    first, second = (
        each("three", num_inference_steps=2, generator=generators(1), output_type="latent").images
        for each in (pipe, loaded)
    )
    assert torch.equal(first, second)


def test_wrong_calls(pipe: FlowARPipeline) -> None:
    with pytest.raises(InputError, match="out of range"):
        pipe(10)
    with pytest.raises(InputError, match="return_trajectory"):
        pipe(3, return_trajectory=-1)
    with pytest.raises(InputError, match=r"coarse map 1 must be \[2"):
        pipe([3, 3], coarse_latents=torch.zeros(3, 1, 14, 14))
