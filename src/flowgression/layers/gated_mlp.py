"""The gated feed-forward part of a transformer block (arXiv 2002.05202).

D: width, M: hidden width.
"""

from torch import Tensor, nn
from torch.nn.functional import gelu


class GatedMlp(nn.Module):
    """Linear(GELU(gate(x)) * value(x)) with the exact GELU. [..., D] -> [..., D].

    M = int(4 D * 2 / 3), so that the size is that of a plain MLP four times as wide. `dropout` acts on the output.
    """

    def __init__(self, hidden_size: int, dropout: float = 0.0):
        super().__init__()
        mlp_size = int(4 * hidden_size * 2 / 3)
        self.gate = nn.Linear(hidden_size, mlp_size)
        self.value = nn.Linear(hidden_size, mlp_size)
        self.out = nn.Linear(mlp_size, hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.out(gelu(self.gate(x)) * self.value(x)))
