"""A small FID while training: samples of the EMA weights against pictures of the data, in features that are built in.

It is for comparing the steps of one run. With so few pictures it is far above the FID of many, and the features are not
those of published figures.

Letters: n pictures, H W C size and channels.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import cycle, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowgression.autoencoders.model import KLAutoencoder
from flowgression.errors import InputError
from flowgression.evaluation.features.base import Extractor
from flowgression.evaluation.features.choice import built_in_features
from flowgression.evaluation.features.registry import load_extractor
from flowgression.evaluation.gaussian import Gaussian, frechet_distance
from flowgression.evaluation.images import ArrayImages, ImageSet
from flowgression.evaluation.statistics import collect
from flowgression.sampling.batches import sample_batches
from flowgression.sampling.images import to_uint8
from flowgression.training.previews import preview_call
from flowgression.training.trainer import Trainer

BATCH = 64


class SmallFid:
    """FID of `preview.fid_images` samples from at most as many pictures: the run's held-out ones, or those trained on.

    The pictures, their labels (which the samples have, too) and all noise are the same each time, and nothing that
    training draws changes. Of a latent cache the pictures are what the autoencoder decodes.

    Args:
        trainer: of the run, on the main process.

    Raises:
        InputError: there are fewer than two pictures, or they cannot be read.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.config, wanted = trainer.config, trainer.config.preview.fid_images
        held_out = trainer.held_out
        self.held_out = held_out is not None and len(held_out) > 1
        data = held_out if held_out is not None and self.held_out else trainer.dataset
        if len(data) < 2:
            raise InputError(f"preview.fid_images={wanted} needs two pictures at least; set it to 0")
        chosen = np.random.default_rng((trainer.config.seed, 5)).permutation(len(data))[:wanted]
        self._indices = np.sort(chosen).tolist()
        self._data, self._vae, self._device = data, trainer.vae, trainer.device

    @cached_property
    def reference(self) -> ImageSet:
        """The pictures."""
        pixels = np.concatenate(
            [self._pictures(self._indices[at : at + BATCH]) for at in range(0, len(self._indices), BATCH)]
        )
        return ArrayImages(self.config.data.path, pixels, self._data.labels[self._indices], self._data.classes)

    @cached_property
    def extractor(self) -> Extractor:
        """The digit classifier for digits, else `pictures-1`."""
        return load_extractor(built_in_features(self.reference), device=self._device)

    @cached_property
    def gaussian(self) -> Gaussian:
        """Of the features of the pictures."""
        return self._gaussian(self.reference)

    def describe(self) -> str:
        """What is compared, in a line. Reads the pictures."""
        wanted, which = self.config.preview.fid_images, "held-out" if self.held_out else "training"
        return (
            f"FID while training: {wanted} samples against {self.gaussian.count} {which} pictures, "
            f"features {self.extractor.info.name}; it compares the steps of this run."
        )

    def measure(self, pipeline: Any) -> float:
        """FID of what `pipeline` draws.

        Raises:
            FloatingPointError: a sample is not finite.
        """
        labels = list(islice(cycle(self._data.labels[self._indices].tolist()), self.config.preview.fid_images))
        call, seed = preview_call(pipeline, self.config.preview), self.config.seed
        drawn = sample_batches(pipeline, labels, call, seed=seed, batch_size=BATCH, shown=False)
        samples = np.concatenate([batch.images for batch in drawn])
        return frechet_distance(self._gaussian(ArrayImages("samples", samples)), self.gaussian)

    def _gaussian(self, images: ImageSet) -> Gaussian:
        found = collect(images, self.extractor, batch_size=BATCH, num_groups=1, keep=0).gaussian
        assert found is not None  # of two pictures or more
        return found

    def _pictures(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """uint8 [n,H,W,C]."""
        if self._vae is None:
            return self._data.pixels(indices).permute(0, 2, 3, 1).numpy()
        latents = self._data.batch(indices, [False] * len(indices), indices).to(self._device)
        decoded = KLAutoencoder(self._vae).decode(latents).div(2).add(0.5).clamp(0, 1)
        return to_uint8(decoded.permute(0, 2, 3, 1).cpu().numpy())
