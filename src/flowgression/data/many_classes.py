"""`data.path: mnist-classes`: the digits in many classes, each a digit in two colours, turned, mirrored or bold.

A class shows a digit c % 10 of the built-in MNIST in a style of its own: an ink, a ground, and one of 16 shapes. What
the label says is thus much more than on MNIST, where two images of a class share only the digit; what a model without
labels has to find out, other images of the class tell. Classes are drawn from a seed, images are made when they are
asked for.

Letters: C classes, n images, H = W = image_size.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowgression.data.config import ClassesConfig
from flowgression.data.dataset import LabeledImages
from flowgression.data.mnist import CLASS_NAMES, load_mnist, resized
from flowgression.errors import InputError

LEVELS = (32, 96, 160, 224)  # of red, green and blue: 64 colours
CONTRAST = 128  # least Euclidean distance of ink and ground
SHAPES = 16  # quarter turns 0 to 3, mirrored or not, bold or not
LEAST_IMAGES = 20


class Styles(NamedTuple):
    """What C classes look like.

    digits: int64 [C], 0..9. inks, grounds: uint8 [C, 3], RGB. turns: int64 [C], quarter turns counter-clockwise, after
    mirroring left to right. mirrored, bold: bool [C].
    """

    digits: NDArray[np.int64]
    inks: NDArray[np.uint8]
    grounds: NDArray[np.uint8]
    turns: NDArray[np.int64]
    mirrored: NDArray[np.bool_]
    bold: NDArray[np.bool_]

    def name(self, index: int) -> str:
        """ "three, #e02060 on #2020a0, turned 90, bold"."""
        ink, ground = (bytes(colours[index]).hex() for colours in (self.inks, self.grounds))
        words = [CLASS_NAMES[self.digits[index]], f"#{ink} on #{ground}"]
        words += ["mirrored"] if self.mirrored[index] else []
        words += [f"turned {90 * self.turns[index]}"] if self.turns[index] else []
        return ", ".join([*words, *(["bold"] if self.bold[index] else [])])

    def part(self, part: slice) -> "Styles":
        """Those of some of the classes."""
        return Styles(*(values[part] for values in self))  # type: ignore[arg-type]  # their order is theirs


def draw_styles(num_classes: int, seed: int = 0) -> Styles:
    """The styles of the classes 0 to num_classes - 1; no two are equal, and fewer are the first of more.

    Raises:
        InputError: more classes than there are styles.
    """
    colours = np.stack(np.meshgrid(LEVELS, LEVELS, LEVELS, indexing="ij"), axis=-1).reshape(-1, 3)
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    pairs = np.argwhere(distances >= CONTRAST)  # [., 2]: ink, ground
    total = len(pairs) * SHAPES
    if num_classes > total:
        raise InputError(f"data.classes.num_classes is {num_classes}; there are {total} styles, so at most as many")
    drawn = np.random.default_rng((seed, 0)).permutation(total)[:num_classes]
    shapes = drawn % SHAPES
    inks, grounds = (colours[pairs[drawn // SHAPES, side]].astype(np.uint8) for side in (0, 1))
    digits = np.arange(num_classes, dtype=np.int64) % 10
    return Styles(digits, inks, grounds, shapes % 4, shapes // 4 % 2 == 1, shapes // 8 == 1)


class MnistClasses(LabeledImages):
    """The data set: the classes take turns, so that the first k C images hold k of every class.

    Args:
        config: which classes, and how many images of each.
        split: of MNIST, whose digits are shown: train, test or all. No digit of one is among the other's.
        image_size: height and width; None is 28.

    Attributes:
        styles: what the C classes look like.
        images_per_class: images of each.

    Raises:
        InputError: more classes than styles, more images of a class than digits, or an unknown split.
    """

    in_memory = True
    title = "the digits in many classes"

    def __init__(self, config: ClassesConfig, split: str = "train", image_size: int | None = None) -> None:
        digits, labels = load_mnist(split)
        members = [np.flatnonzero(labels == digit) for digit in range(10)]
        rarest = min(map(len, members))
        fill = min(rarest, max(LEAST_IMAGES, len(labels) // config.num_classes))
        self.images_per_class = config.images_per_class or fill
        if self.images_per_class > rarest:
            raise InputError(
                f"data.classes.images_per_class is {self.images_per_class}; the rarest digit of split {split!r} is "
                f"there {rarest} times"
            )
        trained = config.num_classes - config.held_out
        part = {"trained": slice(trained), "held-out": slice(trained, None), "all": slice(None)}[config.part]
        self.styles = draw_styles(config.num_classes, config.seed).part(part)
        count = len(self.styles.digits)
        super().__init__(
            np.tile(np.arange(count), self.images_per_class), [self.styles.name(i) for i in range(count)], 3, 0
        )
        # Each class shows a run of the shuffled digits of its kind, from a place of its own.
        self._members = [
            np.random.default_rng((config.seed, 1, digit)).permutation(members[digit]) for digit in range(10)
        ]
        self._starts = np.random.default_rng((config.seed, 2)).random(config.num_classes)[part]
        plain = torch.from_numpy(digits)[:, None]
        self._digits = torch.stack([resized(each, image_size)[:, 0] for each in (plain, _bold(plain))])  # [2, N, H, W]
        self.image_size = self._digits.shape[-1]

    def digit_indices(self, indices: Sequence[int]) -> NDArray[np.int64]:
        """Which digits of the split the images `indices` [n] show."""
        turn, labels = np.divmod(np.asarray(indices, dtype=np.int64), len(self.styles.digits))
        kinds = self.styles.digits[labels]
        counts = np.array([len(group) for group in self._members])[kinds]
        places = ((self._starts[labels] * counts).astype(np.int64) + turn) % counts
        return np.array([self._members[kind][place] for kind, place in zip(kinds, places, strict=True)], dtype=np.int64)

    def pixels(self, indices: Sequence[int]) -> Tensor:
        labels = self.labels[np.asarray(indices, dtype=np.int64)]
        bold = torch.from_numpy(self.styles.bold[labels].astype(np.int64))
        return paint(self._digits[bold, torch.from_numpy(self.digit_indices(indices))], labels, self.styles)


def paint(digits: Tensor, labels: NDArray[np.int64], styles: Styles) -> Tensor:
    """Digits uint8 [n, H, H] in the styles of the classes `labels` [n], but for bold: uint8 [n, 3, H, H]."""
    ink = _turned(digits, styles.turns[labels], styles.mirrored[labels])[:, None].int()
    inks, grounds = (torch.from_numpy(colours[labels]).int()[..., None, None] for colours in styles[1:3])
    return ((ink * inks + (255 - ink) * grounds + 127) // 255).to(torch.uint8)


def nearest_colours(images: Tensor, styles: Styles) -> NDArray[np.int64]:
    """The class of whose two colours each image is best a mixture: images uint8 [n, 3, H, W] -> int64 [n].

    Least squares over pixels p = ground + a (ink - ground) with a in [0, 1]. Classes of equal colours tie; the first
    is taken.
    """
    best = np.zeros(len(images), dtype=np.int64)
    least = torch.full((len(images),), float("inf"))
    for index in range(len(styles.digits)):  # one class at a time, so that memory does not grow with C
        error = (images.float() - _mixture(images, index, styles)[1]).square().mean((1, 2, 3))
        best[(error < least).numpy()] = index
        least = torch.minimum(error, least)
    return best


def take_off(images: Tensor, labels: NDArray[np.int64], styles: Styles) -> Tensor:
    """The inverse of `paint`: images uint8 [n, 3, H, H] as white digits on black, upright: uint8 [n, 1, H, H].

    Of a class whose style is bold the digit stays bold. Features and classifiers of MNIST read the result.
    """
    ink = torch.stack([_mixture(image[None], label, styles)[0][0] for image, label in zip(images, labels, strict=True)])
    turns, mirrored = styles.turns[labels], styles.mirrored[labels]
    upright = _turned(ink, np.where(mirrored, turns, -turns) % 4, mirrored)
    return (255 * upright).round().to(torch.uint8)[:, None]


def _mixture(images: Tensor, label: int, styles: Styles) -> tuple[Tensor, Tensor]:
    """uint8 [n, 3, H, W] -> how much ink there is, [n, H, W] in [0, 1], and the pixels that it makes, [n, 3, H, W]."""
    ink, ground = (torch.from_numpy(colours[label]).float() for colours in styles[1:3])
    along = ink - ground
    share = torch.einsum("nchw,c->nhw", images.float() - ground[:, None, None], along / along.square().sum())
    share = share.clamp(0, 1)
    return share, ground[:, None, None] + share[:, None] * along[:, None, None]


def _bold(images: Tensor) -> Tensor:
    """Each pixel the largest of the 3 x 3 around it; uint8, which max_pool2d does not take."""
    for dim in (-1, -2):
        zeros = torch.zeros_like(images.narrow(dim, 0, 1))
        before, after = torch.cat([zeros, images], dim), torch.cat([images, zeros], dim)
        size = images.shape[dim]
        pair = torch.maximum(before, after)  # [.., size + 1]: of each pixel and the one before it
        images = torch.maximum(pair.narrow(dim, 0, size), pair.narrow(dim, 1, size))
    return images


def _turned(images: Tensor, turns: NDArray[np.int64], mirrored: NDArray[np.bool_]) -> Tensor:
    """[n, H, H], mirrored left to right where `mirrored` says so and then turned."""
    result = torch.empty_like(images)
    for turn in range(4):
        for mirror in (False, True):
            chosen = torch.from_numpy((turns == turn) & (mirrored == mirror))
            if chosen.any():
                group = images[chosen].flip(-1) if mirror else images[chosen]
                result[chosen] = group.rot90(turn, (-2, -1))
    return result
