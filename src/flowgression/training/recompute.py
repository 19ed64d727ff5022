"""Memory for work: what a network is told to compute again in the backward pass."""

from typing import Any

from flowgression.errors import InputError
from flowgression.training.config import TrainConfig


def set_recomputation(model: Any, config: TrainConfig) -> None:
    """Set a network's checkpointing and chunks as the configuration says.

    Raises:
        InputError: head_chunks for a network without flow heads.
    """
    if config.activation_checkpointing:
        model.enable_gradient_checkpointing()
    if config.head_chunks > 1:
        if not hasattr(model, "enable_head_chunking"):
            raise InputError(
                f"head_chunks={config.head_chunks}: models of the family {config.model.family} have no flow heads; "
                "leave it out, or use gradient_accumulation or activation_checkpointing"
            )
        model.enable_head_chunking(config.head_chunks)
