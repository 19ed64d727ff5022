from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from flowgression import InputError
from flowgression.data import transforms
from flowgression.data.transforms import adm_crop, centre_crop, fast_crop, to_pixels
from flowgression.families.arflow.examples import as_latents


def pixels_of(path: Path, size: int, channels: int) -> np.ndarray:
    with Image.open(path) as image:
        return to_pixels(image, size, channels)


@pytest.mark.parametrize(("width", "height"), [(60, 20), (20, 60), (41, 20), (100, 250), (30, 30)])
@pytest.mark.parametrize("size", [10, 20, 33])
def test_the_centre_is_cropped(width: int, height: int, size: int) -> None:
    """The filter keeps linear ramps, so a ramp shows which place of the image each pixel comes from."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    short = min(width, height)
    place = (np.arange(size) + 0.5) * short / size - 0.5
    across = np.asarray(centre_crop(Image.fromarray(x.astype(np.uint8)), size))[size // 2]
    down = np.asarray(centre_crop(Image.fromarray(y.astype(np.uint8)), size))[:, size // 2]
    np.testing.assert_allclose(across[2:-2], (place + (width - short) / 2)[2:-2], atol=1)
    np.testing.assert_allclose(down[2:-2], (place + (height - short) / 2)[2:-2], atol=1)


def test_shrinking_does_not_alias() -> None:
    checker = np.indices((64, 64)).sum(axis=0) % 2 * 255
    small = np.asarray(centre_crop(Image.fromarray(checker.astype(np.uint8)), 8)).astype(int)
    # Away from the border the filter sees as much black as white.
    assert np.abs(small[2:-2, 2:-2] - 127.5).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((8, 8), dtype=np.uint8)
    upright[:4, :4], upright[:4, 4:], upright[4:, :4] = 255, 160, 80
    # How a camera stores a scene for each orientation: the inverse of the change that a viewer makes.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.png", 8, 1)[0], upright)


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(levels * 257).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode.startswith("I")
    for channels in (1, 3):
        np.testing.assert_array_equal(pixels_of(tmp_path / "a.png", 16, channels), [levels] * channels)


def test_palette_is_resolved(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(tmp_path / "a.png")
    assert pixels_of(tmp_path / "a.png", 4, 3)[:, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_shows_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 2, 4))
    image.convert(mode).save(tmp_path / "a.png")
    pixels = pixels_of(tmp_path / "a.png", 4, 3)
    assert (pixels[:, :, :2] == 0).all()
    assert (pixels[:, :, 2:] == 255).all()


def test_grey_is_luma_and_one_bit_and_cmyk_work(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (255, 0, 0)).save(tmp_path / "a.png")
    assert pixels_of(tmp_path / "a.png", 4, 1)[0, 0, 0] == round(0.299 * 255)
    Image.new("1", (4, 4), 1).save(tmp_path / "b.png")
    assert (pixels_of(tmp_path / "b.png", 4, 3) == 255).all()
    Image.new("CMYK", (16, 16), (0, 0, 0, 0)).save(tmp_path / "c.jpg")
    assert (pixels_of(tmp_path / "c.jpg", 8, 3) == 255).all()


def test_large_jpegs_keep_their_picture(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 255, 640).astype(np.uint8), (480, 1))
    Image.fromarray(ramp).save(tmp_path / "a.jpg", quality=95)
    expected = np.asarray(centre_crop(Image.fromarray(ramp), 32)).astype(int)
    assert np.abs(pixels_of(tmp_path / "a.jpg", 32, 1)[0] - expected).max() <= 3


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(ValueError, match="no known range"):
        pixels_of(tmp_path / "a.tiff", 4, 1)


def test_the_crop_of_adm() -> None:
    """Of blocks of 2 x 2 equal pixels the halved image holds each value once; then whole pixels are cropped."""
    blocks = np.random.default_rng(0).integers(0, 256, (10, 15), dtype=np.uint8)
    image = Image.fromarray(np.kron(blocks, np.ones((2, 2), dtype=np.uint8)))
    np.testing.assert_array_equal(adm_crop(image, 10), blocks[:, 2:12])
    np.testing.assert_array_equal(adm_crop(Image.fromarray(blocks), 10), blocks[:, 2:12])
    assert adm_crop(Image.fromarray(blocks), 7).size == (7, 7)


def test_the_fast_crop_is_that_of_pillow() -> None:
    """Kernels of both round their weights: to 2**-22 in Pillow, to 2**-15 or finer in torch, with at most 2 * 4 + 1
    weights of absolute sum below 1.5 in each direction, and each direction rounds its result once more."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 61, 3), dtype=np.uint8)
    for size in (20, 33, 40, 50):
        cropped = Image.fromarray(np.ascontiguousarray(pixels[:, 10:50]))
        expected = np.asarray(cropped.resize((size, size), transforms.FILTER)).astype(int)
        assert np.abs(fast_crop(pixels, size) - expected).max() <= 2


@pytest.mark.parametrize("size", [16, 40, 63, 64, 65, 130])
def test_drafts_are_never_smaller_than_needed(size: int, monkeypatch) -> None:
    decoded = []
    monkeypatch.setattr(
        transforms, "fast_crop", lambda pixels, size, crop=fast_crop: decoded.append(pixels) or crop(pixels, size)
    )
    Image.new("RGB", (260, 131)).save(file := BytesIO(), "JPEG")
    assert to_pixels(Image.open(file), size, 3, "fast").shape == (3, size, size)
    assert min(decoded[0].shape[:2]) >= size
    assert decoded[0].shape[0] == -(-131 // max(scale for scale in (1, 2, 4, 8) if 131 // scale >= size))


def test_one_way_for_all_doors(tmp_path: Path) -> None:
    """The pipeline's examples are prepared as the pixels of training are."""
    rng = np.random.default_rng(0)
    levels = rng.integers(2, 256, (8, 8), dtype=np.uint8)
    grey = Image.fromarray(levels)
    turned = Image.Exif()
    turned[0x0112] = 6
    clear = Image.merge("LA", (grey, Image.fromarray(np.where(levels > 99, 0, 255).astype(np.uint8))))
    pictures = {
        "16bit.png": Image.fromarray(levels.astype(np.uint16) * 257),
        "32bit.tif": Image.fromarray(levels.astype(np.int32)),
        "float.tif": Image.fromarray(levels.astype(np.float32)),
        "clear.png": clear,
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / name)
    grey.save(tmp_path / "turned.png", exif=turned)
    expected = dict.fromkeys(pictures, levels) | {
        "clear.png": np.where(levels > 99, 255, levels), "turned.png": np.rot90(levels, -1)
    }  # fmt: skip
    model = SimpleNamespace(config=SimpleNamespace(in_channels=1), size=(8, 8), device=torch.device("cpu"))
    for name, pixels in expected.items():
        np.testing.assert_array_equal(pixels_of(tmp_path / name, 8, 1)[0], pixels, err_msg=name)
        with Image.open(tmp_path / name) as image:
            found = as_latents([image], model, None)
        np.testing.assert_allclose((found[0, 0, 0].numpy() + 1) * 127.5, pixels, atol=1e-4, err_msg=name)
    Image.fromarray(levels.astype(np.float32) / 255).save(tmp_path / "unit.tif")
    with Image.open(tmp_path / "unit.tif") as image, pytest.raises(InputError, match="no known range"):
        as_latents([image], model, None)
