"""Training of an autoencoder of one's own: a small AutoencoderKL, by the machinery of all other runs.

The loss is that of latent diffusion (arXiv 2112.10752) without its discriminator: the mean absolute error of the
pixels, the same of what a network sees in them, and a little of the posterior's divergence from a standard normal.

B: images, P: channels of pixels, H W: size, C h w: channels and size of a latent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from flowgression.autoencoders.loading import RUN_AUTOENCODER
from flowgression.data.dataset import LabeledImages
from flowgression.errors import InputError
from flowgression.files import atomic_folder
from flowgression.layers.weights import own_weights
from flowgression.sampling.images import make_grid, save_png
from flowgression.training.config import TrainConfig
from flowgression.training.objectives import Objective, ObjectiveOutput
from flowgression.training.randomness import StepRandomness
from flowgression.training.session import Session
from flowgression.training.settings import require
from flowgression.training.trainer import Trainer
from flowgression.typed import check_fields

Describe = Callable[[Tensor], Sequence[Tensor]]
"""float [B, 3, H, W] in [-1, 1] -> what a network sees in it, maps of any sizes."""

NORM_GROUPS = 8
LOGVAR_RANGE = (-30.0, 20.0)
MEASURED = 1024  # images whose latents give the scale
SHOWN = 8  # pictures of a preview


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The autoencoder.

    Attributes:
        latent_channels: C of a latent.
        widths: Channels at each resolution, multiples of 8; each after the first halves the side.
        layers_per_block: Residual blocks at each resolution.
        perceptual: Weight of what the features of a network see.
        kl: Weight of the divergence of the posterior from a standard normal, a mean over the latent's numbers.
    """

    latent_channels: int = 8
    widths: tuple[int, ...] = (16, 32, 48, 64)
    layers_per_block: int = 1
    perceptual: float = 0.1
    kl: float = 1e-4

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))  # YAML and JSON have lists
        check_fields(self, "autoencoder.")
        if not self.widths or any(width < NORM_GROUPS or width % NORM_GROUPS for width in self.widths):
            raise InputError(f"autoencoder.widths={self.widths} must be multiples of {NORM_GROUPS}")
        for name, least in (("latent_channels", 1), ("layers_per_block", 1), ("perceptual", 0), ("kl", 0)):
            if getattr(self, name) < least:
                raise InputError(f"autoencoder.{name}={getattr(self, name)} must be {least} or more")

    @property
    def downsampling(self) -> int:
        """H / h."""
        return 2 ** (len(self.widths) - 1)


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(TrainConfig):
    """A run that trains an autoencoder: everything of `TrainConfig` but `model`, `lora` and what is about sequences.

    Attributes:
        autoencoder: The network.
    """

    autoencoder: NetworkConfig = field(default_factory=NetworkConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        wanted = self.preview.fid_images
        require(wanted == 0, "preview.fid_images", wanted, "0: an autoencoder draws no samples")


class AutoencoderTrainer(Trainer):
    """`Trainer` around an AutoencoderKL.

    Args:
        describe: what the perceptual term compares; None where its weight is 0.
    """

    config: AutoencoderConfig

    def __init__(self, config: AutoencoderConfig, checkpoint: Path | None = None, *, describe: Describe | None) -> None:
        self._describe = describe
        super().__init__(config, checkpoint)

    def _make_model(self, checkpoint: Path | None) -> tuple[Any, Objective]:
        wanted, data = self.config.autoencoder, self.dataset
        if data.autoencoder_folder is not None or data.image_size % wanted.downsampling:
            raise InputError(
                f"{data.title}: an autoencoder of {wanted.downsampling} times learns from images whose sides are "
                f"multiples of that, not from {data.image_size} x {data.image_size}; set another image size"
            )
        levels = len(wanted.widths)
        model: Any = AutoencoderKL(
            in_channels=data.channels,
            out_channels=data.channels,
            latent_channels=wanted.latent_channels,
            block_out_channels=wanted.widths,
            layers_per_block=wanted.layers_per_block,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            norm_num_groups=NORM_GROUPS,
            mid_block_add_attention=False,  # latents of any size
            sample_size=data.image_size,
        )
        own_weights(model)
        model.to(self.device)
        describe = self._describe if wanted.perceptual else None
        return model, Reconstruction(wanted, describe)


class Reconstruction:
    """The objective (see the head of this file); `describe` gives the maps of the perceptual term, None for none."""

    def __init__(self, config: NetworkConfig, describe: Describe | None) -> None:
        self.config, self.describe = config, describe

    def __call__(self, model: Any, images: Tensor, class_labels: Tensor, random: StepRandomness) -> ObjectiveOutput:
        """Images [B, P, H, W] in [-1, 1]; labels are not read."""
        mean, logvar = model.encode(images).latent_dist.parameters.float().chunk(2, dim=1)
        logvar = logvar.clamp(*LOGVAR_RANGE)
        found = model.decode(mean + (logvar / 2).exp() * random.normal(mean.shape)).sample.float()
        error = (found - images).abs().mean()
        divergence = (mean.square() + logvar.exp() - 1 - logvar).mean() / 2
        loss = error + self.config.kl * divergence
        if self.describe is not None:
            colours = (each.expand(-1, 3, -1, -1) if each.shape[1] == 1 else each for each in (found, images))
            seen = [(ours - theirs).abs().mean() for ours, theirs in zip(*map(self.describe, colours), strict=True)]
            loss = loss + self.config.perceptual * torch.stack(seen).mean()
        return ObjectiveOutput(loss, {"psnr": psnr(found.detach(), images), "kl": divergence.detach()})


def psnr(found: Tensor, images: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images [B, ...] whose range is [-1, 1], the mean over the images; 0-dim."""
    errors = (found.clamp(-1, 1) - images).square().flatten(1).mean(1).clamp(min=1e-10)
    return (10 * torch.log10(4 / errors)).mean()


class AutoencoderSession(Session):
    """`Session` whose model is an autoencoder with its scale; previews show images above what became of them."""

    trainer: AutoencoderTrainer

    def preview_writer(self, path: Path) -> Callable[[], None]:
        model, data = self.trainer.ema_model(), self.trainer.held_out or self.trainer.dataset

        def save() -> None:
            images = images_of(data, SHOWN, self.config.seed).to(self.trainer.device)
            pairs = torch.cat([images, reconstructed(model, images)])
            pixels = ((pairs + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
            save_png(make_grid(pixels, columns=len(images), scale=max(1, 64 // pixels.shape[1])), path)

        return save

    def model_writer(self) -> tuple[Path, Callable[[], None]]:
        model, folder = self.trainer.ema_model(), self.folder.root / RUN_AUTOENCODER

        def save() -> None:
            set_scale(model, images_of(self.trainer.dataset, MEASURED, self.config.seed))
            with atomic_folder(folder) as temporary:
                model.save_pretrained(temporary)

        return folder, save


def images_of(data: LabeledImages, count: int, seed: int) -> Tensor:
    """At most so many images of a data set, drawn by the seed, float32 [n, P, H, W] in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(data), generator=generator)[:count].tolist()
    return data.batch(chosen, [False] * len(chosen))


@torch.no_grad()
def reconstructed(model: Any, images: Tensor) -> Tensor:
    """Images [B, P, H, W] through the mean of their latents and back."""
    return torch.cat([model.decode(model.encode(part).latent_dist.mean).sample for part in images.split(32)])


@torch.no_grad()
def set_scale(model: Any, images: Tensor) -> None:
    """Write into the configuration by which factor and shift the latents of `images` have mean 0 and deviation 1."""
    device = next(model.parameters()).device
    found = [model.encode(part.to(device)).latent_dist.mean.double() for part in images.split(32)]
    latents = torch.cat(found)
    spread = latents.std().item()
    if not spread > 0:
        raise InputError("the latents of all images are equal: the autoencoder has learned nothing; train it longer")
    model.register_to_config(scaling_factor=1 / spread, shift_factor=latents.mean().item())
