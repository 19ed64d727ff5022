"""adaLN: layer norm whose shift and scale come from a condition (DiT, arXiv 2212.09748, section 3.2)."""

from torch import Tensor, nn


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x * (1 + scale) + shift, all broadcastable."""
    return x * (1 + scale) + shift


class AdaLN(nn.Sequential):
    """Linear(SiLU(c)) cut into `chunks` modulations of width D. Zero at the start. [..., D] -> chunks x [..., D]."""

    def __init__(self, hidden_size: int, chunks: int):
        super().__init__(nn.SiLU(), nn.Linear(hidden_size, chunks * hidden_size))
        self.chunks = chunks

    def forward(self, c: Tensor) -> tuple[Tensor, ...]:
        return super().forward(c).chunk(self.chunks, dim=-1)


class FinalLayer(nn.Module):
    """adaLN and the projection to patches. x [..., N, D], c [..., 1, D] -> [..., N, out_size]."""

    def __init__(self, hidden_size: int, out_size: int):
        super().__init__()
        self.norm_final = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(hidden_size, out_size)
        self.adaLN_modulation = AdaLN(hidden_size, 2)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c)
        return self.linear(modulate(self.norm_final(x), shift, scale))
