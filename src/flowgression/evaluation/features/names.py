"""The extractors that are built in: the only ones that a file can name."""

from flowgression.errors import InputError

DIGIT_FEATURES = ("mnist", "mnist-rgb")
PICTURE_FEATURES = "pictures-1"
NAMES = (*DIGIT_FEATURES, PICTURE_FEATURES, "inception")


def closed_name(name: str, where: object, how: str) -> str:
    """`name`, which a file holds, if it is one of the names built in here.

    Args:
        where: the file, and what in it holds the name, as the message says it.
        how: how to name an extractor of one's own all the same.

    Raises:
        InputError: any other name; nothing is imported.
    """
    if name not in NAMES:
        raise InputError(
            f"{where} names the features {name!r}, which are none of {', '.join(NAMES)}; nothing is imported because a "
            f"file says so. If you know that code and trust it, {how}"
        )
    return name
