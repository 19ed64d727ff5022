"""From a name to an autoencoder."""

from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from flowgression.autoencoders.model import Autoencoder, KLAutoencoder, PixelAutoencoder
from flowgression.autoencoders.presets import PRESETS, builtin_autoencoders
from flowgression.errors import InputError, did_you_mean
from flowgression.layers.weights import check_finite, own_weights

IDENTITY = "identity"
RUN_AUTOENCODER = "autoencoder"  # where `flowgression train-autoencoder` puts it in the folder of its run


def load_autoencoder(
    name: str,
    *,
    scaling_factor: float | None = None,
    shift_factor: float | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    tile: int | None = None,
    slicing: bool = False,
) -> Autoencoder:
    """An autoencoder in evaluation mode.

    Args:
        name: "identity" (pixels), "pictures-kl8" (built in: colour, eight times smaller, 8 channels), a folder of an
            AutoencoderKL, a published one such as "sd-vae", or "owner/name" on the Hugging Face hub.
        scaling_factor, shift_factor: instead of those of its configuration; they are written into it.
        dtype: precision of encoding and decoding.
        tile: images with sides above so many pixels are encoded and decoded in overlapping tiles of that size, which
            bounds memory; a multiple of its downsampling.
        slicing: decode the images of a batch one after another.

    Raises:
        InputError: there is none of that name, or an option that does not fit it.
    """
    if name == IDENTITY:
        given = {"scaling_factor": scaling_factor, "shift_factor": shift_factor, "tile": tile}
        if wrong := [key for key, value in given.items() if value is not None]:
            raise InputError(f"{wrong[0]} has no meaning for the autoencoder identity, whose latents are pixels")
        return PixelAutoencoder()
    vae: Any = load_vae(name, dtype)
    preset = None if Path(name).is_dir() else PRESETS.get(name)
    factor = scaling_factor if scaling_factor is not None else preset and preset.scaling_factor
    if factor is not None:
        if not factor > 0:
            raise InputError(f"scaling_factor={factor} must be a positive number")
        vae.register_to_config(scaling_factor=float(factor))
    if shift_factor is not None:
        vae.register_to_config(shift_factor=float(shift_factor))
    vae.to(device).eval().requires_grad_(False)
    if slicing:
        vae.enable_slicing()
    autoencoder = KLAutoencoder(vae)
    if tile is not None:
        set_tiling(autoencoder, tile)
    return autoencoder


def load_vae(name: str, dtype: torch.dtype = torch.float32) -> AutoencoderKL:
    """The AutoencoderKL, with its own scale and shift, of a built-in name, a folder, a run's folder, a published or a
    hub name.

    Raises:
        InputError: there is none of that name.
    """
    built_in = builtin_autoencoders()
    path = built_in.get(name, Path(name).expanduser())
    if path.is_file():
        raise InputError(
            f"autoencoder {name!r} is a file; give the folder of an AutoencoderKL, or owner/name on the hub. A "
            "checkpoint becomes a folder by `flowgression convert --family mar-vae`."
        )
    if (path / RUN_AUTOENCODER / "config.json").is_file():
        path = path / RUN_AUTOENCODER
    source = str(path)
    if not path.is_dir():
        if name in PRESETS and PRESETS[name].hub_name is None:
            raise InputError(
                f"autoencoder {name!r} is published as a checkpoint: `flowgression convert FILE --family mar-vae "
                "--out DIR` makes a folder of it; give that folder"
            )
        if name not in PRESETS and name.count("/") != 1:
            raise InputError(
                f"no autoencoder {name!r}: no such folder; {did_you_mean(name, [IDENTITY, *built_in, *PRESETS])}"
            )
        source = (name in PRESETS and PRESETS[name].hub_name) or name
    try:
        vae = AutoencoderKL.from_pretrained(source, torch_dtype=dtype)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"autoencoder {name!r}: no AutoencoderKL can be loaded from there ({reason}).") from error
    check_finite(vae.state_dict(), f"autoencoder {name!r}")
    own_weights(vae)
    return vae


def set_tiling(autoencoder: KLAutoencoder, tile: int) -> None:
    """Encode and decode in overlapping tiles of `tile` x `tile` pixels where images are larger.

    Raises:
        InputError: `tile` is no positive multiple of the downsampling.
    """
    if tile < 1 or tile % autoencoder.downsampling:
        raise InputError(f"tiles of {tile} pixels: expected a positive multiple of {autoencoder.downsampling}")
    vae: Any = autoencoder.vae
    vae.enable_tiling()
    vae.tile_sample_min_size = tile
    vae.tile_latent_min_size = tile // autoencoder.downsampling
