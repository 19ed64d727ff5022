"""Images to tokens and back.

B: images, C: channels, H W: size, P: patch size, h = H / P, w = W / P, N = h * w tokens, D: width.
"""

from torch import Tensor, nn


class PatchEmbed(nn.Module):
    """Cut an image into P x P patches and project each: a convolution with kernel = stride = P."""

    def __init__(self, patch_size: int, in_channels: int, hidden_size: int):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, hidden_size, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, N, D], patches row by row."""
        return self.proj(x).flatten(2).transpose(1, 2)


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """[B, C, h * P, w * P] -> [B, N, P * P * C], patches row by row; the inverse of `unpatchify`."""
    p = patch_size
    rows = images.unflatten(-1, (-1, p)).unflatten(2, (-1, p))  # [B, C, h, P, w, P]
    return rows.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def unpatchify(tokens: Tensor, grid: tuple[int, int], patch_size: int) -> Tensor:
    """[B, N, P * P * C] -> [B, C, h * P, w * P]. Inside a token the order is row, column, channel, as in DiT."""
    h, w = grid
    p = patch_size
    x = tokens.reshape(tokens.shape[0], h, w, p, p, -1)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(tokens.shape[0], -1, h * p, w * p)
