"""One glyph from several draws of it: the ink that most of them have.

A single draw may lose a stroke or gain a spot. Outlines are traced where ink is above one half, so the median of each
pixel follows the vote of the draws there; unlike the mean it has no grey where they differ.

N draws, C glyphs, H W pixels.
"""

import numpy as np
from numpy.typing import NDArray

from flowgression.errors import InputError


def typical(draws: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The median [C, H, W] over draws [N, C, H, W] of each pixel; of one draw, that draw.

    Raises:
        InputError: no draw.
    """
    if not len(draws):
        raise InputError("expected at least one draw of each glyph; got none")
    return np.median(draws, axis=0).round().astype(np.uint8)
