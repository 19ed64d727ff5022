"""adaLN: layer norm whose shift and scale come from a condition (DiT, arXiv 2212.09748, section 3.2)."""

import torch
from torch import Tensor, nn


def modulate(x: Tensor, shift: Tensor, factor: Tensor) -> Tensor:
    """x * factor + shift, all broadcastable; the factor is 1 + scale."""
    return _multiplied_and_added(x, factor, shift)


def gated(x: Tensor, gate: Tensor, branch: Tensor) -> Tensor:
    """x + gate * branch, all broadcastable."""
    return _multiplied_and_added(branch, gate, x)


def _multiplied_and_added(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """a * b + c: in one pass, but for gradients in two, since the derivative of addcmul takes two passes more."""
    return a * b + c if torch.is_grad_enabled() else torch.addcmul(c, a, b)


def match_rows(x: Tensor, like: Tensor) -> Tensor:
    """x [B, ...] repeated to the rows of `like`, a multiple of B: guidance reads one image under two conditions."""
    rows, wanted = x.shape[0], like.shape[0]  # len() would be a constant in an exported graph
    return x if rows >= wanted else x.repeat(wanted // rows, *[1 for _ in x.shape[1:]])


class AdaLN(nn.Sequential):
    """Linear(SiLU(c)) cut into `chunks` modulations of width D. Zero at the start. [..., D] -> chunks x [..., D]."""

    def __init__(self, hidden_size: int, chunks: int):
        super().__init__(nn.SiLU(), nn.Linear(hidden_size, chunks * hidden_size))
        self.chunks = chunks

    def forward(self, c: Tensor) -> tuple[Tensor, ...]:
        return self.of_activated(self[0](c))

    def of_activated(self, activated: Tensor) -> tuple[Tensor, ...]:
        """The same of SiLU(c), which the layers of one condition share."""
        return self[1](activated).chunk(self.chunks, dim=-1)


class FinalLayer(nn.Module):
    """adaLN and the projection to patches. x [..., N, D] -> [..., N, out_size]."""

    def __init__(self, hidden_size: int, out_size: int):
        super().__init__()
        self.norm_final = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(hidden_size, out_size)
        self.adaLN_modulation = AdaLN(hidden_size, 2)

    def read(self, activated: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and factor for SiLU(c) [..., 1, D]."""
        shift, scale = self.adaLN_modulation.of_activated(activated)
        return shift, 1 + scale

    def forward(self, x: Tensor, shift: Tensor, factor: Tensor) -> Tensor:
        return self.linear(modulate(self.norm_final(x), shift, factor))
