"""The gated feed-forward part of a transformer block (arXiv 2002.05202).

D: width, M: hidden width.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, pad

MANY_ROWS = 4096  # from here on, copies of the weights are small beside the products
ALIGNMENT = 64  # of a matrix's width on a GPU: rows of 2,730 bfloat16 are no multiple of 16 bytes, as fast kernels ask


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
        more = -self.gate.out_features % ALIGNMENT
        if more and x.is_cuda and self._has_many_rows(x) and self._is_plain():
            return self.dropout(self._padded(x, more))
        gate, value = gelu(self.gate(x)), self.value(x)
        return self.dropout(self.out(gate * value if torch.is_grad_enabled() else gate.mul_(value)))

    def _has_many_rows(self, x: Tensor) -> bool:
        width = x.shape[-1]
        return x.numel() >= width * max(MANY_ROWS, 4 * width)

    def _is_plain(self) -> bool:
        """No adapters, and nobody who looks at the layers' own results."""
        layers = (self.gate, self.value, self.out)
        return all(type(layer) is nn.Linear and not layer._forward_hooks for layer in layers)

    def _padded(self, x: Tensor, more: int) -> Tensor:
        """The same numbers with M + more hidden values, of which the last are GELU(0) * 0 = 0; weights stay as they
        are."""
        gate = linear(x, pad(self.gate.weight, (0, 0, 0, more)), pad(self.gate.bias, (0, more)))
        value = linear(x, pad(self.value.weight, (0, 0, 0, more)), pad(self.value.bias, (0, more)))
        return linear(gelu(gate) * value, pad(self.out.weight, (0, more)), self.out.bias)
