"""AdamW with decay on matrices only, the learning rate as a function of the step, and gradient clipping."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from flowgression.training.config import OptimizerConfig, ScheduleConfig
from flowgression.training.sharding import gradient_norm, local_part


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) over the trainable parameters of `model`.

    Parameters with two or more dimensions (matrices, kernels, tables) decay; biases and other vectors do not.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=True,
    )


def learning_rate_factor(step: int, max_steps: int, config: ScheduleConfig) -> float:
    """The factor in [0, 1] on the learning rate at `step` (0 is the first); no state, so nothing to restore."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.name == "constant":
        return 1.0
    span = max(max_steps - config.warmup_steps, 1)
    progress = min((step - config.warmup_steps) / span, 1.0)
    return config.final_factor + (1 - config.final_factor) * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Use `lr` in every parameter group from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def clip_gradients(parameters: Iterable[Tensor], config: OptimizerConfig) -> Tensor:
    """Clip the gradients in place, by norm and then by value; of sharded gradients every process calls it.

    Returns:
        The norm of the whole gradient before clipping, a 0-dim tensor; not finite if any entry is not.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = gradient_norm(gradients)
    parts = [local_part(gradient) for gradient in gradients]
    if config.clip_norm is not None:
        torch._foreach_mul_(parts, (config.clip_norm / (norm + 1e-6)).clamp(max=1.0))
    if config.clip_value is not None:
        torch._foreach_clamp_min_(parts, -config.clip_value)
        torch._foreach_clamp_max_(parts, config.clip_value)
    return norm
