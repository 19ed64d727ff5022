"""Images that a person hands to a pipeline, of any kind that diffusers' pipelines take.

Letters: B images, P channels of pixels, H W size, C h w channels and size of a latent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import max_pool2d

from flowgression.autoencoders.model import as_autoencoder
from flowgression.errors import InputError, reading
from flowgression.flow.paths import get_path
from flowgression.pictures import plain
from flowgression.sampling.edit import Edit, check_strength

Pictures = Tensor | np.ndarray | Image.Image | Sequence[Any]
"""PIL images; tensors [..., P, H, W] or arrays [..., H, W, P], of floats in [0, 1] or uint8; or lists of these."""


def to_tensor(given: Pictures, channels: int, height: int, width: int, name: str) -> Tensor:
    """Float32 [..., P, H, W]; uint8 becomes [0, 1]. PIL images are cropped to the shape and resized.

    Args:
        channels, height, width: of the pixels of PIL images.
        name: of the argument, for messages.

    Raises:
        InputError: something else, or lists of unequal images.
    """
    if isinstance(given, Image.Image):
        given = [given]
    if isinstance(given, Tensor):
        pixels = given
    elif isinstance(given, np.ndarray):
        pixels = torch.from_numpy(np.moveaxis(given, -1, -3).copy()) if given.ndim >= 3 else torch.zeros(0)
    elif isinstance(given, Sequence) and given and all(isinstance(each, Image.Image) for each in given):
        with reading(f"{name}: a picture", "give pictures with 8 or 16 bits"):
            shown = [plain(each, channels) for each in given]
        fitted = [ImageOps.fit(each, (width, height), Image.Resampling.BICUBIC) for each in shown]
        pixels = torch.stack([torch.from_numpy(np.array(each)) for each in fitted])
        pixels = pixels[:, None] if channels == 1 else pixels.permute(0, 3, 1, 2)
    elif isinstance(given, Sequence) and given and not isinstance(given, str):
        parts = [to_tensor(each, channels, height, width, name) for each in given]
        if len({part.shape for part in parts}) > 1:
            raise InputError(f"{name} must be equally many for each sample, and of one size.")
        return torch.stack(parts)
    else:
        raise InputError(f"{name} must be images (PIL, tensors or arrays), not {type(given).__name__}.")
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float()


def check_range(pixels: Tensor, name: str) -> None:
    """InputError unless all values are in [0, 1]."""
    if not bool(((pixels >= 0) & (pixels <= 1)).all()):
        raise InputError(f"{name} must be floats in [0, 1], or uint8; these are outside.")


def encode(pixels: Tensor, vae: Any) -> Tensor:
    """Pixels [B, P, H, W] in [0, 1] -> what a model sees of them, [B, C, h, w]: the mean of the posterior, scaled."""
    autoencoder = as_autoencoder(vae)
    return (autoencoder.encode(2 * pixels - 1).mean - autoencoder.shift_factor) * autoencoder.scaling_factor


@dataclass(frozen=True)
class Given:
    """What a call of a pipeline is given of its images.

    Attributes:
        edit: as the sampler sees it; None: nothing is given.
        pixels: the images [B, P, H, W] in [0, 1], and mask, bool [B, 1, H, W]: where they are drawn anew.
    """

    edit: Edit | None = None
    pixels: Tensor | None = None
    mask: Tensor | None = None

    def paste(self, drawn: Tensor) -> Tensor:
        """Drawn pixels [B, P, H, W] with what the mask keeps put back, which an autoencoder or rounding changes."""
        return drawn if self.mask is None or self.pixels is None else torch.where(self.mask, drawn, self.pixels)

    def check_scheduler(self, scheduler: Any) -> None:
        """InputError where a scheduler of diffusers walks, which begins at noise, and the image is to be read."""
        if scheduler is not None and self.edit is not None and self.edit.strength < 1:
            raise InputError(
                "pipe.scheduler begins at noise and strength below 1 at an image; set pipe.scheduler = None first."
            )


NOTHING = Given()


def read_given(pipe: Any, image: Any, strength: float | None, mask_image: Any, rows: int) -> Given:
    """What `image`, `strength` and `mask_image` of a call for `rows` images say; tensors on the pipeline's device.

    Raises:
        InputError: one without the others where that says nothing, other shapes or values, or latents without an
            autoencoder.
    """
    if image is None:
        if strength is not None or mask_image is not None:
            raise InputError("strength and mask_image are of an image to begin with; give image.")
        return NOTHING
    model, autoencoder, device = pipe.transformer, as_autoencoder(pipe.vae), pipe._execution_device
    strength = check_strength(strength, masked=mask_image is not None)
    channels = autoencoder.pixel_channels or model.config.in_channels
    if pipe.vae is None and channels not in (1, 3):
        raise InputError(
            f"an image must be encoded to latents of {channels} channels, and this pipeline has no autoencoder; load "
            "one with vae=..."
        )
    side = model.config.sample_size
    height, width = (side, side) if isinstance(side, int) else side
    height, width = height * autoencoder.downsampling, width * autoencoder.downsampling
    shape = (channels, height, width)
    pixels = _rows_of(to_tensor(image, channels, height, width, "image"), shape, rows, "image").to(device)
    mask = seen_mask = None
    if mask_image is not None:
        mask = _rows_of(_as_mask(mask_image, height, width), (1, height, width), rows, "mask_image").to(device) >= 0.5
        seen_mask = max_pool2d(mask.float(), autoencoder.downsampling) > 0
    seen = encode(pixels, pipe.vae)
    if seen_mask is not None:
        seen_mask = seen_mask.expand_as(seen)
    path = get_path(getattr(model.config, "path", "linear"))
    return Given(Edit(image=seen, strength=strength, mask=seen_mask, path=path), pixels, mask)


def labels_beside(pipe: Any, class_labels: Any, image: Any) -> list[int]:
    """Class ids of a call; beside an image the null label passes, too, and stands for labels that are not given.

    Raises:
        InputError: neither labels nor an image, or no class for a model that was trained with one always.
    """
    if class_labels is None and image is None:
        raise InputError("give class_labels, one for each image.")
    config = pipe.transformer.config
    ids = [config.num_classes] if class_labels is None else pipe.class_ids(class_labels, null=image is not None)
    if config.num_classes in ids and config.class_dropout_prob == 0:
        raise InputError(
            "this model was trained without a null label (class_dropout_prob = 0); give class_labels beside the image."
        )
    return ids


def _as_mask(given: Any, height: int, width: int) -> Tensor:
    """Float32 [..., 1, H, W] in [0, 1] of a mask: a grey PIL image, or a tensor or array that may lack the channel."""
    if isinstance(given, Image.Image):
        given = [given]
    if isinstance(given, Sequence) and given and all(isinstance(each, Image.Image) for each in given):
        fitted = [ImageOps.fit(plain(each, 1), (width, height), Image.Resampling.NEAREST) for each in given]
        return torch.stack([torch.from_numpy(np.array(each)) for each in fitted])[:, None].float() / 255
    if isinstance(given, np.ndarray):
        given = torch.from_numpy(given)
        given = given.movedim(-1, -3) if given.ndim >= 3 and given.shape[-1] == 1 else given
    if not isinstance(given, Tensor):
        raise InputError(f"mask_image must be images (PIL, tensors or arrays), not {type(given).__name__}.")
    given = given.float() / 255 if given.dtype == torch.uint8 else given.float()
    return given if given.ndim >= 3 and given.shape[-3] == 1 else given.unsqueeze(-3)


def _rows_of(pixels: Tensor, shape: Sequence[int], rows: int, name: str) -> Tensor:
    """[rows, *shape] of one image for all or one for each. InputError for other shapes or values outside of [0, 1]."""
    pixels = pixels[None] if pixels.ndim == 3 else pixels
    if tuple(pixels.shape[1:]) != tuple(shape) or len(pixels) not in (1, rows):
        raise InputError(
            f"{name} must be one image of {' x '.join(map(str, shape))} (channels, height, width) for all, or one for "
            f"each of {rows}; got a shape of {list(pixels.shape)}."
        )
    check_range(pixels, name)
    return pixels.expand(rows, *shape)
