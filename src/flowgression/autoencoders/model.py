"""One encode and one decode for pixels and for diffusers' AutoencoderKL.

Letters: B images, P channels of pixels, H W size of an image, C channels and h w size of its latent z.
What a model sees is x = (z - shift_factor) * scaling_factor, with z drawn from the posterior N(mean, exp(logvar)).
"""

from typing import Any, NamedTuple, Protocol

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from flowgression.errors import InputError


class Moments(NamedTuple):
    """The posterior of latents, float32.

    Attributes:
        mean: [B, C, h, w].
        logvar: [B, C, h, w], or None where the encoder is deterministic.
    """

    mean: Tensor
    logvar: Tensor | None


class Autoencoder(Protocol):
    """What encodes images float [B, P, H, W] in [-1, 1] and decodes scaled latents [B, C, h, w].

    Attributes:
        pixel_channels: P, or None for any.
        latent_channels: C, or None for that of the pixels.
        downsampling: H / h.
        scaling_factor, shift_factor: see the head of this file.
    """

    pixel_channels: int | None
    latent_channels: int | None
    downsampling: int
    scaling_factor: float
    shift_factor: float

    def encode(self, images: Tensor) -> Moments:
        """The posterior of the unscaled latents of `images` [B, P, H, W]."""

    def decode(self, latents: Tensor) -> Tensor:
        """Images [B, P, H, W], about in [-1, 1], of scaled latents [B, C, h, w]."""


class PixelAutoencoder:
    """The identity: latents are pixels."""

    pixel_channels: int | None = None
    latent_channels: int | None = None
    downsampling = 1
    scaling_factor = 1.0
    shift_factor = 0.0

    def encode(self, images: Tensor) -> Moments:
        return Moments(images.float(), None)

    def decode(self, latents: Tensor) -> Tensor:
        return latents


class KLAutoencoder:
    """An AutoencoderKL of diffusers on its device and in its precision; scale and shift are those of its configuration.

    Args:
        vae: the network.

    Raises:
        InputError: it normalises its latents channel by channel, which no model here is trained on.
    """

    def __init__(self, vae: AutoencoderKL) -> None:
        config: Any = vae.config
        if config.get("latents_mean") is not None or config.get("latents_std") is not None:
            raise InputError(
                "this AutoencoderKL has latents_mean and latents_std; only scaling_factor and shift_factor are known"
            )
        self.vae = vae
        self.pixel_channels: int | None = int(config.in_channels)
        self.latent_channels: int | None = int(config.latent_channels)
        self.downsampling = 2 ** (len(config.block_out_channels) - 1)
        self.scaling_factor = float(config.scaling_factor)
        self.shift_factor = float(config.get("shift_factor") or 0.0)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Moments:
        """The posterior of the unscaled latents.

        Args:
            images: [B, P, H, W] in [-1, 1]; H and W are multiples of `downsampling`.

        Raises:
            InputError: another number of channels, or sides that are no multiples.
        """
        if images.shape[1] != self.pixel_channels:
            raise InputError(f"the autoencoder reads {self.pixel_channels} channels; the images have {images.shape[1]}")
        if images.shape[2] % self.downsampling or images.shape[3] % self.downsampling:
            raise InputError(
                f"images of {images.shape[2]} x {images.shape[3]} pixels do not fit an autoencoder that makes them "
                f"{self.downsampling} times smaller; use sides that are multiples of {self.downsampling}"
            )
        posterior: Any = self.vae.encode(images.to(self.vae.dtype)).latent_dist
        return Moments(posterior.mean.float(), posterior.logvar.float())

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images [B, P, H, W] float32, about in [-1, 1], of scaled latents [B, C, h, w]."""
        unscaled = latents / self.scaling_factor + self.shift_factor
        return self.vae.decode(unscaled.to(self.vae.dtype)).sample.float()


def as_autoencoder(vae: AutoencoderKL | None) -> Autoencoder:
    """The interface of a pipeline's `vae`, which is None where it generates pixels."""
    return PixelAutoencoder() if vae is None else KLAutoencoder(vae)
