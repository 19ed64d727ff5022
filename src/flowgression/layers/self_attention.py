"""Plain multi-head self-attention, as in the vision transformer.

B: images, N: tokens, D: width, A: heads, d = D / A.
"""

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from flowgression.errors import InputError


class SelfAttention(nn.Module):
    """softmax(q k^T / sqrt(d)) v with one projection for q, k and v.

    Raises:
        InputError: `hidden_size` is not divisible by `num_heads`.
    """

    def __init__(self, hidden_size: int, num_heads: int):
        super().__init__()
        if num_heads < 1 or hidden_size % num_heads:
            raise InputError(f"hidden_size {hidden_size} is not divisible by num_heads {num_heads}.")
        self.num_heads = num_heads
        self.read_size = 0
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def read(self, c: Tensor) -> Tensor:
        """Nothing of the condition c [..., 1, D]."""
        return c[..., :0]

    def forward(
        self, x: Tensor, read: Tensor | None = None, state: None = None, return_state: bool = False
    ) -> tuple[Tensor, None]:
        """[B, N, D] -> [B, N, D]. Called like every attention of a block; all but `x` is unused."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)), None
