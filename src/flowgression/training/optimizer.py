"""AdamW or Muon with decay on matrices only, the learning rate as a function of the step, and gradient clipping."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from flowgression.training.muon import Muon, faster_dtype
from flowgression.training.settings import OptimizerConfig, ScheduleConfig
from flowgression.training.sharding import blocks_of, gradient_norm, local_part


def settle_optimizer(model: nn.Module, config: OptimizerConfig) -> OptimizerConfig:
    """`config` with `muon_dtype` decided by a measurement, where it is "auto" and Muon has anything to do."""
    matrices = _muon_matrices(model, config)
    if config.muon_dtype != "auto" or not matrices:
        return config
    dtype = faster_dtype([tuple(p.shape) for p in matrices], matrices[0].device)
    return replace(config, muon_dtype="bfloat16" if dtype == torch.bfloat16 else "float32")


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimiser over the trainable parameters of `model`.

    AdamW (Loshchilov and Hutter, arXiv 1711.05101), or, with config.name "muon", `MuonAdamW`. Parameters with two or
    more dimensions (matrices, kernels, tables) decay; biases and other vectors do not.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    matrices = _muon_matrices(model, config)
    taken = set(matrices)
    others = [p for p in trainable if p not in taken]
    adamw = torch.optim.AdamW(
        [
            {"params": group, "weight_decay": decay}
            for group, decay in (
                ([p for p in others if p.ndim >= 2], config.weight_decay),
                ([p for p in others if p.ndim < 2], 0.0),
            )
            if group
        ],
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=True,
    )
    if not matrices:
        return adamw
    dtype = getattr(torch, settle_optimizer(model, config).muon_dtype)
    return MuonAdamW(Muon(matrices, config.lr, config.weight_decay, dtype), adamw)


def _muon_matrices(model: nn.Module, config: OptimizerConfig) -> list[nn.Parameter]:
    """The trainable matrices of the blocks if the optimiser is Muon, else none."""
    if config.name != "muon":
        return []
    in_blocks = {p for block in blocks_of(model) for p in block.parameters() if p.ndim == 2}
    return [p for p in model.parameters() if p.requires_grad and p in in_blocks]


class MuonAdamW(torch.optim.Optimizer):
    """Muon for the matrices of the blocks and AdamW for everything else, as one optimiser."""

    def __init__(self, muon: Muon, adamw: torch.optim.AdamW) -> None:
        self._parts: list[torch.optim.Optimizer] = [muon, adamw]
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._share()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share()

    def _share(self) -> None:
        """Let the two work on the groups and the state of this optimiser, also after others were loaded."""
        groups = iter(self.param_groups)
        for part in self._parts:
            part.param_groups = [next(groups) for _ in part.param_groups]
            part.state = self.state

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step of both."""
        for part in self._parts:
            part.step()


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
