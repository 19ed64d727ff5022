"""Autoencoders by name: the one that is built in, and those that papers name, with the facts their recipes rely on."""

from importlib import resources
from pathlib import Path
from typing import NamedTuple

BUILT_IN = "pictures-kl8"  # a general one for colour pictures, eight times smaller (docs/your-pictures.md)


class Preset(NamedTuple):
    """A published autoencoder.

    Attributes:
        hub_name: where its diffusers folder is on the Hugging Face hub; None if it is published as a checkpoint only.
        latent_channels: channels of a latent.
        downsampling: pixels of an image's side for one of its latent's.
        scaling_factor: what latents are multiplied by before a model sees them.
    """

    hub_name: str | None
    latent_channels: int
    downsampling: int
    scaling_factor: float


PRESETS = {
    # Latent diffusion's KL-f8, as ARFlow and SiT use it (arXiv 2112.10752; scale as in arXiv 2212.09748).
    "sd-vae": Preset("stabilityai/sd-vae-ft-ema", 4, 8, 0.18215),
    # MAR's KL-16, as FlowAR uses it (arXiv 2406.11838).
    "mar-kl16": Preset(None, 16, 16, 0.2325),
}


def builtin_autoencoders() -> dict[str, Path]:
    """The autoencoders that come inside the package: their names and folders."""
    return {BUILT_IN: Path(str(resources.files("flowgression"))) / "builtin" / BUILT_IN}
