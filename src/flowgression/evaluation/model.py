"""Making the images of a model and measuring what they cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flowgression.classes import Classes
from flowgression.evaluation.cost import Cost, CostMeter
from flowgression.evaluation.images import ArrayImages
from flowgression.sampling.batches import CLASS_NAMES, sample_batches, sampling_facts


def sample_and_measure(
    pipe: Any, labels: Sequence[int], call: Mapping[str, Any], *, model: str, seed: int, batch_size: int
) -> tuple[ArrayImages, Cost]:
    """One image for each label, and their cost.

    Args:
        pipe, labels, call, seed, batch_size: as in `sampling.batches.sample_batches`.
        model: what the model is called in reports.

    Raises:
        InputError, FloatingPointError: as there.
    """
    meter = CostMeter(pipe, call)
    images = np.empty((0, 0, 0, 0), dtype=np.uint8)
    with meter:
        done = 0
        for batch in sample_batches(pipe, labels, call, seed=seed, batch_size=batch_size):
            if done == 0:  # room for all: 50,000 images of 256 pixels are 9.8 GB, not to be held twice
                images = np.empty((len(labels), *batch.images.shape[1:]), dtype=np.uint8)
            images[done : done + len(batch.images)] = batch.images
            done += len(batch.images)
    facts = sampling_facts(pipe, call, model=model, seed=seed, batch_size=batch_size)
    names = Classes(facts.pop(CLASS_NAMES, []))
    return ArrayImages(model, images, list(labels), names, facts), meter.cost(len(images))
