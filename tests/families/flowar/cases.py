"""The small models that all FlowAR tests share."""

from typing import Any

import torch
from torch import Tensor

from flowgression import FlowAR

CASES: dict[str, dict[str, Any]] = {
    "powers": {"sample_size": 4, "in_channels": 2, "scales": (1, 2, 4), "num_classes": 5},
    "six": {"sample_size": 6, "in_channels": 3, "scales": (1, 2, 3, 6), "num_classes": 7},
    "seven": {"sample_size": 7, "in_channels": 1, "scales": (1, 4, 7), "num_classes": 10},
    "patches": {"sample_size": 14, "in_channels": 1, "scales": (1, 3, 7), "num_classes": 10, "patch_size": 2},
    "first scale of several tokens": {"sample_size": 4, "in_channels": 1, "scales": (2, 4), "num_classes": 3},
    "one scale": {"sample_size": 3, "in_channels": 2, "scales": (3,), "num_classes": 2},
}
SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "encoder_depth": 2,
    "decoder_depth": 1,
    "num_heads": 2,
    "flow_width": 32,
    "flow_depth": 2,
    "flow_num_heads": 2,
}


def small_model(case: str = "six", **overrides: Any) -> FlowAR:
    """A case's model in evaluation mode, every weight random: none of the zeros of a fresh model hides a path."""
    torch.manual_seed(0)
    model = FlowAR(**{**SIZE, **CASES[case], **overrides})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return model.eval()


def latents_and_labels(model: FlowAR, batch_size: int = 3) -> tuple[Tensor, Tensor]:
    """Random latents [B, C, H, H] and labels [B]."""
    generator = torch.Generator().manual_seed(1)
    side = model.config.sample_size
    latents = torch.randn(batch_size, model.config.in_channels, side, side, generator=generator)
    return latents, torch.randint(model.config.num_classes, (batch_size,), generator=generator)
