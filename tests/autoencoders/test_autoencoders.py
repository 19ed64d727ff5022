"""Autoencoders behind one interface, and released weights in latent diffusion's layout."""

import copy
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from flowgression import InputError
from flowgression.autoencoders.model import KLAutoencoder, PixelAutoencoder, as_autoencoder
from flowgression.autoencoders.released import load_released
from flowgression.models import load_autoencoder
from tests.autoencoders.ldm_autoencoder import LdmAutoencoder
from tests.scripts import ROOT

PAGE_PICTURE = ROOT / "docs" / "images" / "autoencoder.png"
MAR = {"width": 32, "multipliers": (1, 1, 2, 2, 4), "blocks": 2, "latent": 16}  # MAR's shape, a quarter of its width


def small_vae(**config: object) -> AutoencoderKL:
    torch.manual_seed(0)
    settings: dict = {
        "block_out_channels": (8, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "norm_num_groups": 4,
    }
    return AutoencoderKL(**(settings | config)).eval()


# Computed in float64, handed out in float32: the difference is that rounding. What the network adds to it in float64
# is some thousand of its roundings, below 1e-12.
ROUNDED: dict[str, Any] = {"rtol": 2**-23, "atol": 1e-12, "check_dtype": False}


def images(count: int = 2, side: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def ldm() -> LdmAutoencoder:
    torch.manual_seed(0)
    return LdmAutoencoder(**MAR).eval()


def test_converted_weights_encode_and_decode_as_the_released_network(ldm: LdmAutoencoder, tmp_path: Path) -> None:
    checkpoint = tmp_path / "kl16.ckpt"
    weights = ldm.state_dict() | {"loss.logvar": torch.zeros(())}  # MAR's file holds its training's loss too
    torch.save({"model": weights}, checkpoint)
    vae = load_released(checkpoint)
    vae.save_pretrained(tmp_path / "vae")
    autoencoder = load_autoencoder(str(tmp_path / "vae"), dtype=torch.float64)
    assert (autoencoder.latent_channels, autoencoder.downsampling, autoencoder.scaling_factor) == (16, 16, 0.2325)
    released = copy.deepcopy(ldm).double()
    with torch.no_grad():
        mean, logvar = released.encode(images().double())
        latents = torch.randn(mean.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        expected = released.decode(latents / 0.2325)
    moments = autoencoder.encode(images())
    torch.testing.assert_close(moments.mean, mean, **ROUNDED)
    torch.testing.assert_close(moments.logvar, logvar, **ROUNDED)
    torch.testing.assert_close(autoencoder.decode(latents), expected, **ROUNDED)


def test_other_checkpoints_are_refused(ldm: LdmAutoencoder) -> None:
    weights = ldm.state_dict()
    with pytest.raises(InputError, match="attention outside of its middle"):
        load_released(weights | {"encoder.down.3.attn.0.q.weight": torch.zeros(4, 4, 1, 1)})
    with pytest.raises(InputError, match=r"lacks .*quant_conv.weight"):
        load_released({"encoder.conv_in.weight": torch.zeros(4, 3, 3, 3)})
    del weights["decoder.mid.attn_1.q.bias"]
    with pytest.raises(InputError, match="1 names or shapes differ"):
        load_released(weights)


def test_scale_and_shift_come_from_the_configuration_unless_given(tmp_path: Path) -> None:
    vae = small_vae(scaling_factor=0.5, shift_factor=0.25)
    vae.save_pretrained(tmp_path / "vae")
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for given, scale, shift in (({}, 0.5, 0.25), ({"scaling_factor": 2.0, "shift_factor": -1.0}, 2.0, -1.0)):
        autoencoder = load_autoencoder(str(tmp_path / "vae"), **given)
        with torch.no_grad():
            expected = vae.decode(latents / scale + shift).sample
        torch.testing.assert_close(autoencoder.decode(latents), expected, atol=0, rtol=0)
        assert isinstance(autoencoder, KLAutoencoder)
        assert autoencoder.vae.config.scaling_factor == scale


def test_a_round_trip_is_that_of_diffusers() -> None:
    vae = small_vae(scaling_factor=0.5, shift_factor=0.25).double()
    with torch.no_grad():
        mode = vae.encode(images().double()).latent_dist.mode()
        expected = vae.decode(mode).sample
    autoencoder = KLAutoencoder(vae)
    torch.testing.assert_close(autoencoder.encode(images()).mean, mode, **ROUNDED)
    torch.testing.assert_close(autoencoder.decode((mode - 0.25) * 0.5), expected, **ROUNDED)


def test_tiles_and_slices_give_the_same_picture(tmp_path: Path) -> None:
    small_vae().save_pretrained(tmp_path / "vae")
    options: dict[str, Any] = {"dtype": torch.float64}
    whole = load_autoencoder(str(tmp_path / "vae"), **options)
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    sliced = load_autoencoder(str(tmp_path / "vae"), slicing=True, **options)
    torch.testing.assert_close(sliced.decode(latents), whole.decode(latents), **ROUNDED)
    tiled = load_autoencoder(str(tmp_path / "vae"), tile=16, **options)
    parts = []
    decoder = tiled.vae.decoder.forward
    tiled.vae.decoder.forward = lambda z, *rest: parts.append(z.shape[-1]) or decoder(z, *rest)
    shown = tiled.decode(latents)
    assert shown.shape == (2, 3, 32, 32)
    assert len(parts) > 1
    assert max(parts) == 8
    # Normalisation sees one tile at a time, so the pictures agree but for small differences.
    assert (shown - whole.decode(latents)).abs().mean() < 0.1
    assert tiled.encode(images()).mean.shape == (2, 4, 16, 16)


def test_precision_is_chosen(tmp_path: Path) -> None:
    small_vae().save_pretrained(tmp_path / "vae")
    half = load_autoencoder(str(tmp_path / "vae"), dtype=torch.bfloat16)
    full = load_autoencoder(str(tmp_path / "vae"))
    assert half.vae.dtype == torch.bfloat16
    mean = half.encode(images()).mean
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean, full.encode(images()).mean, atol=0.05, rtol=0.05)


def test_the_built_in_autoencoder_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name from anywhere, for pictures of any sides that eight divides."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    autoencoder = load_autoencoder("pictures-kl8")
    assert (autoencoder.pixel_channels, autoencoder.latent_channels, autoencoder.downsampling) == (3, 8, 8)
    latents = autoencoder.encode(torch.zeros(1, 3, 96, 64)).mean
    assert latents.shape == (1, 8, 12, 8)
    with pytest.raises(InputError, match="did you mean 'pictures-kl8'"):
        load_autoencoder("pictures-kl")


@pytest.mark.skipif(not PAGE_PICTURE.exists(), reason="not in a checkout")
def test_the_built_in_autoencoder_makes_of_photographs_what_the_page_shows() -> None:
    """Crops of photographs, below each what became of it; their latents have deviation about 1."""
    with Image.open(PAGE_PICTURE) as opened:
        pixels = torch.from_numpy(np.array(opened.convert("RGB")))
    rows, columns = range(0, 400, 130), range(0, 910, 130)
    tiles = torch.stack([pixels[top : top + 128, left : left + 128] for top, left in product(rows, columns)])
    images = tiles.permute(0, 3, 1, 2).view(4, 7, 3, 128, 128).float() / 127.5 - 1
    autoencoder = load_autoencoder("pictures-kl8")
    for crops, shown in images.split(2):
        latents = (autoencoder.encode(crops).mean - autoencoder.shift_factor) * autoencoder.scaling_factor
        assert 0.5 < latents.std() < 2
        found = autoencoder.decode(latents).clamp(-1, 1)
        assert ((found - shown).abs() * 127.5).max() <= 0.5 + 0.1  # rounded to 256 levels; arithmetic of this machine


def test_pixels_are_their_own_latents() -> None:
    autoencoder = load_autoencoder("identity")
    assert isinstance(autoencoder, PixelAutoencoder)
    assert isinstance(as_autoencoder(None), PixelAutoencoder)
    moments = autoencoder.encode(images())
    assert moments.logvar is None
    torch.testing.assert_close(autoencoder.decode(moments.mean), images(), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mar-kl61", {}, "no autoencoder 'mar-kl61'.*did you mean 'mar-kl16'"),
        ("mar-kl16", {}, "published as a checkpoint.*--family mar-vae"),
        ("{file}", {}, "is a file; give the folder of an AutoencoderKL"),
        ("{folder}", {}, "no AutoencoderKL can be loaded"),
        ("identity", {"scaling_factor": 2.0}, "scaling_factor has no meaning for the autoencoder identity"),
        ("{vae}", {"scaling_factor": 0.0}, "scaling_factor=0.0 must be a positive number"),
        ("{vae}", {"tile": 15}, "tiles of 15 pixels: expected a positive multiple of 2"),
    ],
)
def test_mistakes(tmp_path: Path, name: str, options: dict, message: str) -> None:
    (tmp_path / "a.ckpt").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    small_vae().save_pretrained(tmp_path / "vae")
    places = {"file": tmp_path / "a.ckpt", "folder": tmp_path / "empty", "vae": tmp_path / "vae"}
    with pytest.raises(InputError, match=message):
        load_autoencoder(name.format(**places), **options)


def test_images_that_do_not_fit() -> None:
    autoencoder = KLAutoencoder(small_vae())
    with pytest.raises(InputError, match="reads 3 channels; the images have 1"):
        autoencoder.encode(torch.zeros(1, 1, 8, 8))
    with pytest.raises(InputError, match="9 x 8 pixels do not fit"):
        autoencoder.encode(torch.zeros(1, 3, 9, 8))
    with pytest.raises(InputError, match="latents_mean"):
        KLAutoencoder(small_vae(latents_mean=(0.0,) * 4, latents_std=(1.0,) * 4))
