"""The loss on images that training never sees: the objective of the EMA weights, with the same noise each time."""

from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from flowgression.data import make_loader, make_sampler
from flowgression.data.dataset import LabeledImages
from flowgression.training.randomness import step_randomness

if TYPE_CHECKING:
    from flowgression.training.trainer import Trainer

IMAGES = 256  # that are asked about; fewer are asked about several times, at other times of the path
BATCH = 64
FIRST_STEP = 2**40  # of whose random numbers the noise is made: training never gets there


@torch.no_grad()
def held_out_loss(trainer: "Trainer", model: Any, data: LabeledImages) -> float:
    """The mean loss of `model`, a whole network in evaluation mode, on held-out images; a process calls it alone."""
    config = trainer.config
    length = config.sequence_length if config.sequence_length > 1 else None
    contents = config.sequence.contents if length else "class"
    sampler = make_sampler(data, 1, length, config.seed, contents=contents)
    rows = max(1, min(BATCH // (length or 1), sampler.sequences_per_epoch))
    sampler.batch_size = rows
    losses = []
    batches = make_loader(data, sampler, 0, device=trainer.device)
    for index, batch in enumerate(islice(batches, max(1, IMAGES // (rows * (length or 1))))):
        random = step_randomness(config, FIRST_STEP + index, trainer.device, 0, 1)
        with trainer.accelerator.autocast():
            losses.append(trainer.objective(model, batch["images"], batch["class_labels"], random).loss.float())
    return torch.stack(losses).mean().item()
