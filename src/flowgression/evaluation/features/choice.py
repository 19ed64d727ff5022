"""Which features judge which pictures: the digit classifier digits alone, Inception or `pictures-1` all others."""

from collections.abc import Sequence
from importlib.util import find_spec

from flowgression.errors import InputError
from flowgression.evaluation.features.inception import find_weights
from flowgression.evaluation.features.names import DIGIT_FEATURES, PICTURE_FEATURES
from flowgression.evaluation.images import ImageSet

WRONG = "WRONG FEATURES"
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def shows_digits(images: ImageSet) -> bool | None:
    """Whether the classes say that images show digits; None where nothing says what they show, and they are grey."""
    if images.title.partition(":")[0] in ("mnist", "mnist-classes"):
        return True
    if images.labels is not None and images.classes.are_named:
        return names_digits(images.classes.titles)
    return None if images.facts.get("channels") == 1 else False


def names_digits(names: Sequence[str]) -> bool:
    """Whether all of some class names are digits, in words or figures."""
    known = {*DIGITS, *map(str, range(10))}
    return bool(names) and all(name.split(",")[0].strip().lower() in known for name in names)


def choose_features(images: ImageSet) -> str:
    """The features for pictures: "mnist" for digits and unnamed grey ones; else "inception" where it is at hand."""
    found = built_in_features(images)
    return "inception" if found == PICTURE_FEATURES and has_inception() else found


def built_in_features(images: ImageSet) -> str:
    """The same, of those whose weights are in the package."""
    if shows_digits(images) is False:
        return PICTURE_FEATURES
    return DIGIT_FEATURES[0] if images.facts.get("channels") == 1 else DIGIT_FEATURES[1]


def has_inception() -> bool:
    """Whether the Inception network of FID and its weights are on this machine."""
    if find_spec("torch_fidelity") is None:
        return False
    try:
        find_weights()
    except InputError:
        return False
    return True


def warning_about(name: str, images: ImageSet) -> str | None:
    """Why features `name` say little about `images`; None where they fit."""
    if name not in DIGIT_FEATURES:
        return None
    digits = shows_digits(images)
    if digits is False:
        return (
            f"{WRONG}: {name} is a classifier of digits and {images.title} shows something else; its distances say "
            f"nothing about such pictures. Use --features {PICTURE_FEATURES} or inception."
        )
    if digits is None:
        return (
            f"Nothing says that {images.title} shows digits, which {name} is a classifier of; for other pictures use "
            f"--features {PICTURE_FEATURES}."
        )
    return None
