"""Broken images: named, counted, and an error when they are more than 1 % of a data set."""

import warnings
from collections.abc import Mapping

from flowgression.data.source import Unreadable
from flowgression.errors import InputError

LIMIT = 0.01
NAMED = 10  # images that one message names


def check_share(title: str, broken: Mapping[str, Unreadable], total: int, count: int | None = None) -> str:
    """Say which images are broken.

    Args:
        title: What to call the data set.
        broken: Reasons by name; the first ten are listed.
        total: Images found, broken ones included.
        count: How many are broken in all, where `broken` holds only some of them.

    Returns:
        One sentence that names, counts and gives the share.

    Raises:
        InputError: more than 1 % of the images are broken.
    """
    count = len(broken) if count is None else count
    named = list(broken.items())[:NAMED]
    listed = "; ".join(f"{name} ({why.reason})" for name, why in named)
    more = f"; and {count - len(named)} more" if count > len(named) else ""
    text = f"{title}: {count} of {total} images ({count / total:.2%}) cannot be read: {listed}{more}."
    if count > LIMIT * total:
        raise InputError(f"{text} More than {LIMIT:.0%} is taken for a fault: repair or remove them.")
    return text


def warn_left_out(title: str, broken: Mapping[str, Unreadable], total: int) -> None:
    """Warn once that the images `broken` are left out of the data set; InputError above 1 %."""
    if broken:
        warnings.warn(f"{check_share(title, broken, total)} They are left out.", stacklevel=4)
