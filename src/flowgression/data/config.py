"""What to train on, as one checked dataclass. Imports no torch, so that the command line starts at once."""

from dataclasses import dataclass, field
from typing import Literal

from flowgression.errors import InputError
from flowgression.typed import check_fields

MNIST_CLASSES = "mnist-classes"
FONTS = "fonts:"
CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.,!?&@'-"


@dataclass(frozen=True, kw_only=True)
class ClassesConfig:
    """The classes of `data.path: mnist-classes`, see `flowgression.data.many_classes`.

    Attributes:
        num_classes: Classes in all, held-out ones included. Those of a smaller number are the first of a larger one.
        images_per_class: Different digits that each class shows. null takes as many as make about as many images as
            the split of MNIST has, but 20 at least and those of the rarest digit at most.
        held_out: How many of the classes, the last ones, no training sees.
        part: Which classes the data set holds: trained (all but the held-out ones), held-out, or all. Labels count
            from 0 in each part.
        seed: Decides the styles of the classes and which digits they show.
    """

    num_classes: int = 100
    images_per_class: int | None = None
    held_out: int = 0
    part: Literal["trained", "held-out", "all"] = "trained"
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, "data.classes.")
        if self.num_classes < 1:
            raise InputError(f"data.classes.num_classes is {self.num_classes}; expected one or more")
        _check_whole("classes.images_per_class", self.images_per_class, least=1)
        if not 0 <= self.held_out < self.num_classes:
            raise InputError(
                f"data.classes.held_out is {self.held_out}; expected 0 to {self.num_classes - 1}, "
                "fewer than data.classes.num_classes"
            )
        if self.part == "held-out" and not self.held_out:
            raise InputError("data.classes.part is held-out, but data.classes.held_out is 0; say how many are held out")
        if self.seed < 0:
            raise InputError(f"data.classes.seed is {self.seed}; expected 0 or more")


@dataclass(frozen=True, kw_only=True)
class FontsConfig:
    """The glyphs of `data.path: fonts:FOLDER`, see `flowgression.data.fonts`.

    Attributes:
        characters: Which are drawn; they are the classes, in this order.
        held_out: Share of the families that are the split test. Fonts that look almost alike count as one family.
        most_per_family: At most so many fonts of a family, spread over it; null takes all.
        augment: How often, in [0, 1], a font is changed in an epoch: slant, width, weight, warp, pen strokes.
        seed: Decides which families are held out.
    """

    characters: str = CHARACTERS
    held_out: float = 0.1
    most_per_family: int | None = None
    augment: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, "data.fonts.")
        doubled = sorted({character for character in self.characters if self.characters.count(character) > 1})
        if not self.characters or doubled or any(character.isspace() for character in self.characters):
            raise InputError(
                f"data.fonts.characters is {self.characters!r}; expected at least one character, none twice "
                f"({''.join(doubled) or 'none is'}), and no space"
            )
        for name, value in (("held_out", self.held_out), ("augment", self.augment)):
            if not 0 <= value <= 1:
                raise InputError(f"data.fonts.{name} is {value}; expected a share from 0 to 1")
        _check_whole("fonts.most_per_family", self.most_per_family, least=1)


@dataclass
class DataConfig:
    """A data set and how its images are cut.

    Attributes:
        path: `mnist` (built in), `mnist-classes` (these digits in many classes of colours and shapes, see `classes`), a
            folder with one subfolder of images per class or with a metadata.csv, a folder written by
            `datasets.Dataset.save_to_disk`, `fonts:FOLDER` for the glyphs of the fonts below a folder (several are
            separated as in $PATH; `fonts:` takes the system's), `hf:NAME` for a data set of the Hugging Face hub, or a
            latent cache written by `flowgression cache-latents`.
        split: Part of the data set. `mnist`, `mnist-classes` and `fonts:` have train, test and all; an image folder has
            the splits that it holds as subfolders (train, test, val, validation), or is itself `train` if it holds
            none.
        image_size: Height and width in pixels after the short side is resized and the centre is cropped;
            None keeps the images' own size, which must then be one square size for all of them.
        channels: 1 (grey) or 3 (RGB); None keeps grey data sets grey and makes all others RGB.
        flip: Mirror each image left to right with probability 1/2. Leave it off where sides carry meaning
            (digits, letters).
        num_workers: Processes that read images ahead; None means none for images held in memory, else one per
            free core, at most 8.
        cache_limit_mb: Data sets that fit into this many MiB as uint8 are decoded once and held in memory;
            larger ones are decoded when an image is needed. 0 never caches.
        subset: Configuration name of a Hugging Face data set that has several.
        image_column: Column of a Hugging Face data set that holds the images; None finds it by its type.
        label_column: Column of a Hugging Face data set that holds the classes; None finds it by its type.
        group_by: What images of `sequence.contents: group` share. Of folders of folders `class/group` or `group/class`,
            the outer folder first; of a metadata.csv or a Hugging Face data set a column, `group` if it is there. The
            groups of `fonts:` are fonts.
        scaling_factor: The factor that the latents of a cache must have been made with; None takes any.
        classes: The classes of `mnist-classes`.
        fonts: The glyphs of `fonts:FOLDER`.
        resize: How image files become square. bicubic: antialiased, JPEGs decoded at a fraction of their size that is
            still at least twice image_size; fast: at least image_size, cropped first, then torch's faster filter;
            adm: as in ADM and for the released models, halved by box filters, then bicubic.
        augment: Probability, from 0 to less than 1, of each of the changes of place and colour that training makes to
            an image and tells the network of, so that samples show none of them (as in EDM, arXiv 2206.00364); about
            0.15 for few images. 0 makes none.
        validation: Share of the images, chosen by the run's seed, that training never sees: their loss is measured
            while training, and the EMA weights with the lowest become the model. 0 holds none out.

    Raises:
        InputError: a value is out of its range.
    """

    path: str = "mnist"
    split: str = "train"
    image_size: int | None = None
    channels: int | None = None
    flip: bool = False
    num_workers: int | None = None
    cache_limit_mb: int = 512
    subset: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    group_by: str | None = None
    scaling_factor: float | None = None
    classes: ClassesConfig = field(default_factory=ClassesConfig)
    fonts: FontsConfig = field(default_factory=FontsConfig)
    resize: Literal["bicubic", "fast", "adm"] = "bicubic"
    augment: float = 0.0
    validation: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "data.")
        if not str(self.path).strip() or self.path == "hf:":
            raise InputError(f"data.path is {self.path!r}; expected mnist, a folder of class-named folders, or hf:NAME")
        if not self.split:
            raise InputError("data.split is empty; expected a name such as train")
        if self.channels not in (None, 1, 3):
            raise InputError(f"data.channels is {self.channels!r}; expected 1 (grey) or 3 (RGB)")
        for name in ("augment", "validation"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"data.{name} is {getattr(self, name)}; expected a number from 0 to less than 1")
        _check_whole("image_size", self.image_size, least=1)
        _check_whole("num_workers", self.num_workers, least=0)
        _check_whole("cache_limit_mb", self.cache_limit_mb, least=0)
        if self.path != MNIST_CLASSES and self.classes != ClassesConfig():
            raise InputError(f"data.classes is for data.path {MNIST_CLASSES}, not {self.path!r}; leave it out")
        if not self.path.startswith(FONTS) and self.fonts != FontsConfig():
            raise InputError(f"data.fonts is for data.path fonts:FOLDER, not {self.path!r}; leave it out")
        if self.path == MNIST_CLASSES and self.channels == 1:
            raise InputError(f"data.channels is 1, but the classes of {MNIST_CLASSES} differ by colours; leave it out")


def _check_whole(name: str, value: int | None, least: int) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise InputError(f"data.{name} is {value!r}; expected a whole number, {least} or more")
