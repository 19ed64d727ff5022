"""Making the images of a model and measuring what they cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flowgression.evaluation.cost import Cost, CostMeter
from flowgression.evaluation.images import ArrayImages
from flowgression.sampling.batches import sample_batches, sampling_facts


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
    with meter:
        batches = list(sample_batches(pipe, labels, call, seed=seed, batch_size=batch_size))
    images = np.concatenate([batch.images for batch in batches])
    facts = sampling_facts(pipe, call, model=model, seed=seed, batch_size=batch_size)
    return ArrayImages(model, images, list(labels), facts=facts), meter.cost(len(images))
