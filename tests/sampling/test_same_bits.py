"""A loaded pipeline gives the bits of the one that was saved, wherever its weights lie in their file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from flowgression import load_pipeline
from flowgression import make_pipeline as pipeline_of
from flowgression.autoencoders.loading import load_vae
from tests.autoencoders.test_autoencoders import small_vae
from tests.families.flowar.cases import small_model

ALIGNMENT = 64  # bytes, of PyTorch's allocator and of what MKL asks for
LOADS = 20


def aligned(module: torch.nn.Module) -> bool:
    return all(tensor.data_ptr() % ALIGNMENT == 0 for tensor in module.state_dict().values())


def move_weights(file: Path, by: int) -> None:
    """Write the file anew with a header that is longer, so that all tensors start `by` words of 8 bytes later."""
    save_file(load_file(file), file, metadata={"format": "pt", "padding": "x" * (8 * by)})


def draw(pipe: Any) -> torch.Tensor:
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    return pipe([3, 1], num_inference_steps=2, guidance_scale=2.0, generator=generators, output_type="latent").images


@pytest.fixture(params=["arflow", "sit", "flowar"])
def pipe(request: pytest.FixtureRequest, make_pipeline: Callable[..., Any]) -> Any:
    made: Any = pipeline_of(small_model("patches")) if request.param == "flowar" else make_pipeline(request.param)
    made.set_progress_bar_config(disable=True)
    return made


def test_every_load_draws_the_bits_of_the_saved_pipeline(pipe: Any, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    expected, offsets = draw(pipe), set()
    for load in range(LOADS):
        file = next(tmp_path.glob("transformer/*.safetensors"))
        move_weights(file, load)
        offsets |= {tensor.data_ptr() % ALIGNMENT for tensor in load_file(file).values()}
        loaded = load_pipeline(tmp_path)
        loaded.set_progress_bar_config(disable=True)
        assert aligned(loaded.transformer)
        assert torch.equal(draw(loaded), expected)
    assert len(offsets) > 1, "the loads would not differ without the copy either"


def test_the_autoencoder_s_weights_are_copied_too(make_pipeline: Callable[..., Any], tmp_path: Path) -> None:
    vae, sit = small_vae(), make_pipeline("sit", in_channels=4).transformer
    pipeline_of(sit, vae=vae).save_pretrained(tmp_path)
    for loaded in (load_pipeline(tmp_path).vae, load_vae(str(tmp_path / "vae"))):
        assert aligned(loaded)
        latents = torch.randn(1, 4, 6, 4, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            assert torch.equal(loaded.decode(latents).sample, vae.decode(latents).sample)
