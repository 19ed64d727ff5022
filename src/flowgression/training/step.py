"""One optimisation step: the gradient of the batch, part by part, then clipping, the optimiser and the EMA weights.

B: sequences (or images) of this process in the step's batch, P: processes, K: micro-batches.
"""

import math
from contextlib import nullcontext

import torch
from torch import Tensor

from flowgression.training.errors import NonFiniteError
from flowgression.training.length import RunLength
from flowgression.training.optimizer import clip_gradients, learning_rate_factor, set_learning_rate
from flowgression.training.randomness import derived_seed, step_randomness
from flowgression.training.sharding import without_gradient_sync
from flowgression.training.trainer import Trainer


def training_step(
    trainer: Trainer, step: int, batch: dict[str, Tensor], *, length: RunLength | None = None, stop: bool = False
) -> tuple[dict[str, float], bool]:
    """Do one optimisation step; every process calls it.

    Args:
        step: steps done before this one.
        batch: "images" [B, ...] and "class_labels" [B], on the device.
        length: by which the learning rate falls; it is told the time. None: config.max_steps.
        stop: whether this process was asked to stop.

    Returns:
        The metrics, averaged over all processes, and whether any of them was asked to stop.

    Raises:
        NonFiniteError: loss or gradient is not finite; weights, EMA weights and optimiser are as before.
    """
    config = trainer.config
    length = length or RunLength(config)
    lr = config.optimizer.lr * learning_rate_factor(step, length.total_steps(step), config.schedule)
    set_learning_rate(trainer.optimizer, lr)

    tensors = accumulate_gradients(trainer, step, batch)
    tensors["grad_norm"] = clip_gradients(trainer.parameters, config.optimizer)
    tensors["stop"] = torch.full((), float(stop), device=trainer.device)
    if length.timed:
        tensors["seconds"] = torch.full((), length.now(), device=trainer.device)
    metrics = averaged_numbers(trainer, tensors)
    if length.timed:
        length.update(metrics.pop("seconds"))
    if not (math.isfinite(metrics["loss"]) and math.isfinite(metrics["grad_norm"])):
        trainer.optimizer.zero_grad(set_to_none=True)
        raise NonFiniteError(f"step {step + 1}: loss {metrics['loss']}, norm of the gradient {metrics['grad_norm']}")

    trainer.apply_gradients(step)
    stopped = metrics.pop("stop") > 0
    return {**metrics, "lr": lr}, stopped


def accumulate_gradients(trainer: Trainer, step: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add up the gradient of the mean loss over the whole step's batch, K parts one after the other.

    Returns:
        The loss and the objective's metrics, means over this process's images, 0-dim each.
    """
    config, accelerator = trainer.config, trainer.accelerator
    parts = config.gradient_accumulation
    total: dict[str, Tensor] = {}
    for index, (images, labels) in enumerate(
        zip(batch["images"].chunk(parts), batch["class_labels"].chunk(parts), strict=True)
    ):
        part, num_parts = accelerator.process_index * parts + index, accelerator.num_processes * parts
        torch.manual_seed(derived_seed(config.seed, step, part))  # for dropout layers
        random = step_randomness(config, step, trainer.device, part, num_parts)
        with nullcontext() if index == parts - 1 else without_gradient_sync(trainer.module):
            with accelerator.autocast():
                output = trainer.module(images, labels, random)
            loss = output.loss / parts
            loss.backward()
        values = {"loss": loss, **{name: value / parts for name, value in output.metrics.items()}}
        total = {name: value.detach() + total.get(name, 0.0) for name, value in values.items()}
    return total


def averaged_numbers(trainer: Trainer, tensors: dict[str, Tensor]) -> dict[str, float]:
    """0-dim tensors as numbers, averaged over the P processes.

    This is the one transfer of a step, where the host waits for the device.
    """
    stacked = torch.stack([value.detach().float().to(trainer.device) for value in tensors.values()])
    averaged = trainer.accelerator.reduce(stacked, "mean")
    return dict(zip(tensors, averaged.tolist(), strict=True))
