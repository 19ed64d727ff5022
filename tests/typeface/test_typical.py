"""One glyph from several draws."""

import numpy as np
import pytest

from flowgression import InputError
from flowgression.typeface.typical import typical


def test_a_stroke_lost_in_a_minority_of_draws_is_there_and_a_spot_is_not() -> None:
    glyph = np.zeros((36, 36), np.uint8)
    glyph[8:28, 10:14] = glyph[8:28, 22:26] = 255
    draws = np.stack([glyph] * 5)[:, None]
    draws[0, :, :, 20:] = 0
    draws[3, :, 12:18] = 0
    draws[2, :, 30:34, 30:34] = 200
    np.testing.assert_array_equal(typical(draws), glyph[None])
    assert np.abs(draws.mean(0)[0] - glyph).max() > 30  # the mean has grey there
    np.testing.assert_array_equal(typical(draws[:1]), draws[0])


def test_no_draw_is_refused() -> None:
    with pytest.raises(InputError, match="at least one draw"):
        typical(np.zeros((0, 3, 36, 36), np.uint8))
