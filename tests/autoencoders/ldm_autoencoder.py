"""The KL autoencoder of latent diffusion in plain torch, as its papers describe it, with its names of weights.

An independent twin for tests of the conversion: residual blocks of GroupNorm, SiLU and 3 x 3 convolution, attention
over all positions in the middle, strided convolutions padded right and below, nearest-neighbour up-sampling.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 32


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)


class Block(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(before), nn.Conv2d(before, after, 3, padding=1)
        self.norm2, self.conv2 = norm(after), nn.Conv2d(after, after, 3, padding=1)
        if before != after:
            self.nin_shortcut = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2) for layer in (self.q, self.k, self.v))  # [B, C, positions]
        weights = torch.softmax(q.transpose(1, 2) @ k / q.shape[1] ** 0.5, dim=-1)
        return x + self.proj_out((v @ weights.transpose(1, 2)).reshape(x.shape))


class Middle(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1, self.attn_1, self.block_2 = (
            Block(channels, channels),
            Attention(channels),
            Block(channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Half(nn.Module):
    """One convolution whose name in the checkpoint is `downsample.conv` or `upsample.conv`."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=stride, padding=int(stride == 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.conv.stride[0] == 2:
            return self.conv(F.pad(x, (0, 1, 0, 1)))
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class Encoder(nn.Module):
    def __init__(self, widths: list[int], blocks: int, latent: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down, before = nn.ModuleList(), widths[0]
        for index, width in enumerate(widths):
            level = nn.Module()
            level.block = nn.ModuleList(Block(before if i == 0 else width, width) for i in range(blocks))
            if index < len(widths) - 1:
                level.downsample = Half(width, stride=2)
            self.down.append(level)
            before = width
        self.mid = Middle(before)
        self.norm_out, self.conv_out = norm(before), nn.Conv2d(before, 2 * latent, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            for block in level.block:
                x = block(x)
            x = level.downsample(x) if hasattr(level, "downsample") else x
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    def __init__(self, widths: list[int], blocks: int, latent: int) -> None:
        super().__init__()
        before = widths[-1]
        self.conv_in = nn.Conv2d(latent, before, 3, padding=1)
        self.mid = Middle(before)
        levels: list[nn.Module] = []
        for index, width in reversed(list(enumerate(widths))):
            level = nn.Module()
            level.block = nn.ModuleList(Block(before if i == 0 else width, width) for i in range(blocks + 1))
            if index > 0:
                level.upsample = Half(width, stride=1)
            levels.insert(0, level)  # numbered like the encoder's: level 0 is the largest image
            before = width
        self.up = nn.ModuleList(levels)
        self.norm_out, self.conv_out = norm(before), nn.Conv2d(before, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        z = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            for block in level.block:
                z = block(z)
            z = level.upsample(z) if hasattr(level, "upsample") else z
        return self.conv_out(F.silu(self.norm_out(z)))


class LdmAutoencoder(nn.Module):
    """`encode` gives (mean, logvar), `decode` images."""

    def __init__(self, width: int, multipliers: tuple[int, ...], blocks: int, latent: int) -> None:
        super().__init__()
        widths = [width * factor for factor in multipliers]
        self.encoder, self.decoder = Encoder(widths, blocks, latent), Decoder(widths, blocks, latent)
        self.quant_conv = nn.Conv2d(2 * latent, 2 * latent, 1)
        self.post_quant_conv = nn.Conv2d(latent, latent, 1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(z))
