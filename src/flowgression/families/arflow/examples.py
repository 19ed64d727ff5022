"""Examples: real images that ARFlow reads before the first denoising step, beside a class label or instead of one.

A state does not know whether its images were generated: those of a class that was never trained on, folded into the
state, say what to draw as earlier steps of the same image would. It needs a model that was trained on sequences of
several images of a class; how well it works is a matter of training (docs/sampling.md).

Letters: B images, K examples of each, C H W channels and size of a latent.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flowgression.autoencoders.model import as_autoencoder
from flowgression.errors import InputError
from flowgression.flow.guidance import Guidance
from flowgression.flow.paths import get_path
from flowgression.sampling.inputs import Pictures, check_range, encode, to_tensor
from flowgression.sampling.request import path_of

Examples = Pictures
"""Images [K,...] for all samples or [B,K,...] for each its own: see `as_latents`."""


def times_of(times: Sequence[float] | None, count: int, *, clean: bool = False) -> list[float]:
    """The time of each of K examples: those given, one for all, or by default 1/K, 2/K, ..., 1 (falling noise).

    clean: whether the model was trained with images that had no noise; the default is then 1 for all.

    Raises:
        InputError: another number of times, or one outside of 0 (noise) to 1 (data).
    """
    if times is None and clean:
        return [1.0] * count
    if times is None:
        return [(index + 1) / count for index in range(count)]
    given = [float(t) for t in times] * (count if len(times) == 1 else 1)
    if len(given) != count or not all(0 <= t <= 1 for t in given):
        raise InputError(
            f"example_times must be one time in [0, 1] for all {count} examples (1 is without noise), or one for each; "
            f"got {list(times)}."
        )
    return given


def check_examples(model: Any, z: Tensor, examples: Tensor, noise: Tensor | None, guidance: Guidance) -> None:
    """Refuse examples that a walk from z [B,C,H,W] cannot begin with.

    Raises:
        InputError: shapes that do not fit, or a model that reads no other images or, guided, cannot keep the examples
            from its null half.
    """
    expected = (len(z), *z.shape[1:])
    for name, tensor in (("examples", examples), ("example_noise", noise)):
        if tensor is not None and (
            tensor.ndim != 5 or (len(tensor), *tensor.shape[2:]) != expected or not tensor.numel()
        ):
            raise InputError(
                f"{name} must be [{len(z)}, K, {', '.join(map(str, z.shape[1:]))}] with K >= 1, K images for each row "
                f"of z; got {list(tensor.shape)}."
            )
    if noise is None or noise.shape != examples.shape:
        raise InputError("examples need example_noise: standard normal noise of the same shape.")
    config = model.config
    if config.context == "none" or getattr(config, "sequence_length", None) == 1:
        why = "has context='none'" if config.context == "none" else "was trained on single images (sequence_length=1)"
        raise InputError(f"this ARFlow {why}: it reads no other images, so examples say nothing to it.")
    if config.context == "full" and guidance.enabled:
        raise InputError(
            "context='full' keeps the tokens of all images, as many in every row, but under guidance the null half "
            "reads no examples; set guidance_scale=1."
        )


def check_example_labels(model: Any, examples: Tensor, labels: Tensor) -> Tensor:
    """Labels [B,K] of examples [B,K,C,H,W], from one for each sequence [B] or one for each image [B,K].

    Raises:
        InputError: another shape or dtype, or a label out of range.
    """
    if labels.dtype != torch.int64 or labels.shape not in (examples.shape[:1], examples.shape[:2]):
        raise InputError(
            f"example_labels must be int64 of shape {list(examples.shape[:2])}, one for each example; got "
            f"{labels.dtype} of shape {list(labels.shape)}."
        )
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) <= model.config.num_classes:
        raise InputError(
            f"example_labels are {int(labels.min())} to {int(labels.max())}; expected 0 to "
            f"{model.config.num_classes - 1}, or the null label {model.config.num_classes}."
        )
    return labels if labels.ndim == 2 else labels[:, None].expand(examples.shape[:2])


def check_no_examples(options: Any, **given: object) -> None:
    """InputError where something is said of examples, and there are none."""
    said = {"example_times": options.example_times, "example_guidance_scale": options.example_guidance_scale, **given}
    if names := [name for name, value in said.items() if value is not None]:
        raise InputError(f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} of examples, and there are none.")


@torch.no_grad()
def state_after(
    model: Any, examples: Tensor, noise: Tensor, times: Sequence[float], labels: Tensor, rows: int
) -> list[Any]:
    """The state after the examples, of `rows` rows: B, or more under guidance, whose other rows have read nothing.

    Args:
        examples: [B,K,C,H,W], latents without noise. noise: like them, ~ N(0, I). times: K, of the examples' noise.
        labels: [B] or [B,K] int64, what the examples show.
    """
    t = examples.new_tensor(times).expand(examples.shape[:2])
    x = get_path(path_of(model)).interpolate(examples, noise, t)
    state = model(x.to(model.dtype), t, labels, return_state=True).state
    if rows == len(examples):
        return state
    return [torch.cat(halves) for halves in zip(state, model.new_state(rows - len(examples)), strict=True)]


def as_latents(examples: Examples, model: Any, vae: Any, device: torch.device | None = None) -> Tensor:
    """Images of any kind that diffusers' pipelines take -> latents float32 [1,K,C,H,W] or [B,K,C,H,W].

    Args:
        examples: PIL images (cropped to the model's shape and resized), one, K or B lists of K; tensors [K,P,H,W] or
            [B,K,P,H,W] or arrays [K,H,W,P] or [B,K,H,W,P], of floats in [0, 1] or uint8. P: channels of pixels.
        vae: the autoencoder of a pipeline, of whose posterior the mean is taken; None for pixels.
        device: where it encodes, and where the latents are; the model's by default.

    Raises:
        InputError: something else, or images of another size than the model's.
    """
    autoencoder = as_autoencoder(vae)
    channels = autoencoder.pixel_channels or model.config.in_channels
    height, width = (side * autoencoder.downsampling for side in model.size)
    pixels = to_tensor(examples, channels, height, width, "examples")
    pixels = pixels[None] if pixels.ndim == 4 else pixels
    if pixels.ndim != 5 or tuple(pixels.shape[2:]) != (channels, height, width) or not pixels.numel():
        raise InputError(
            f"examples must be images of {channels} x {height} x {width}, [K, ...] or [B, K, ...] with K >= 1; "
            f"got a shape of {list(pixels.shape)}, channels before height."
        )
    check_range(pixels, "examples")
    device = model.device if device is None else device
    return torch.stack([encode(each.to(device), vae) for each in pixels])
