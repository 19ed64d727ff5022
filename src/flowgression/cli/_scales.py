"""What the commands on models that draw scale by scale share: the model by name, and a few images for it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowgression.errors import InputError
from flowgression.registry import FAMILIES

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 32
RANDOM = "random"


def load_model(name: str, device: str) -> tuple[Any, Any]:
    """A model that draws scale by scale in evaluation mode, and its pipeline: a built-in name, a folder, a hub name, or
    FAMILY:SIZE with random weights (then the pipeline is one around it).

    Raises:
        InputError: nothing of that name, or a model of another family.
    """
    import torch
    from diffusers.utils import logging

    from flowgression.devices import pick_device
    from flowgression.registry import build_model, family_of
    from flowgression.sampling.loading import load_pipeline, make_pipeline

    logging.disable_progress_bar()
    where = pick_device(device)
    family, colon, preset = name.partition(":")
    if colon and family in FAMILIES:
        torch.manual_seed(0)
        pipeline: Any = make_pipeline(build_model(family, preset))
    else:
        pipeline = load_pipeline(name)
    if not family_of(pipeline.transformer).draws_scales:
        found = type(pipeline.transformer).__name__
        known = next(each.title for each in FAMILIES.values() if each.draws_scales)
        raise InputError(f"{name} is a {found}; this command works on {known} models, such as flowar-mnist.")
    pipeline.to(where)
    return pipeline.transformer.eval(), pipeline


def image_batches(
    pipeline: Any, data: str, split: str, num_images: int, seed: int, batch_size: int = BATCH
) -> Iterator[tuple["Tensor", "Tensor"]]:
    """Batches (latents [B, C, H, H], class_labels [B]) on the model's device; pixels are encoded if the model has an
    autoencoder.

    Args:
        data: mnist, a folder of images or of cached latents, hf:NAME, or random for latents of Gaussian noise.

    Raises:
        InputError: data that the model cannot read.
    """
    import torch

    model, config = pipeline.transformer, pipeline.transformer.config
    generator = torch.Generator().manual_seed(seed)
    if data == RANDOM:
        for start in range(0, num_images, batch_size):
            count = min(batch_size, num_images - start)
            shape = (count, config.in_channels, config.sample_size, config.sample_size)
            labels = torch.randint(config.num_classes, (count,), generator=generator)
            yield torch.randn(shape, generator=generator).to(model.device), labels.to(model.device)
        return
    from flowgression.autoencoders.model import as_autoencoder
    from flowgression.data.config import DataConfig
    from flowgression.data.latents.index import is_cache
    from flowgression.data.opening import open_dataset

    autoencoder = as_autoencoder(pipeline.vae)
    side = config.sample_size * autoencoder.downsampling

    def scaled(images: "Tensor") -> "Tensor":
        return (autoencoder.encode(images).mean - autoencoder.shift_factor) * autoencoder.scaling_factor

    has_own_size = data == "mnist" or is_cache(Path(data).expanduser())
    dataset = open_dataset(DataConfig(path=data, split=split, image_size=None if has_own_size else side))
    if dataset.num_classes > config.num_classes:
        raise InputError(f"{data} has {dataset.num_classes} classes but the model knows {config.num_classes}.")
    chosen = torch.randperm(len(dataset), generator=generator)[:num_images].tolist()
    for start in range(0, len(chosen), batch_size):
        some = chosen[start : start + batch_size]
        images = torch.stack([dataset[(index, False)] for index in some]).to(model.device)
        labels = torch.as_tensor(dataset.labels[some], dtype=torch.int64, device=model.device)
        yield (images if dataset.autoencoder_folder is not None else scaled(images)), labels


def default_data(model: Any) -> str:
    """mnist for models of 28 x 28 grey images of ten classes, whose training data are built in; else random."""
    config = model.config
    fits = (config.sample_size, config.in_channels, config.num_classes) == (28, 1, 10)
    return "mnist" if fits else RANDOM
