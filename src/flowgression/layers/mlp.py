"""The feed-forward part of a transformer block."""

from torch import Tensor, nn
from torch.nn.functional import gelu

from flowgression.errors import InputError


class Mlp(nn.Module):
    """Linear, tanh-GELU, Linear. [..., D] -> [..., D]."""

    def __init__(self, hidden_size: int, mlp_size: int):
        super().__init__()
        self.fc1 = nn.Linear(hidden_size, mlp_size)
        self.fc2 = nn.Linear(mlp_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(gelu(self.fc1(x), approximate="tanh"))


def check_dropout(share: float) -> None:
    """InputError unless `share` is a share of numbers that training may drop."""
    if not 0 <= share < 1:
        raise InputError(f"dropout is {share}; it must be a share from 0 to less than 1.")
