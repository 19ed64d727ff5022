"""What a comparison says of its times."""

import pytest
import torch

from flowgression.theory.comparison import Comparison


@pytest.mark.parametrize(
    ("exact", "approximated", "words"),
    [
        (3.0, 1.0, "3.00 times as fast in this run"),
        (0.66, 1.0, "slower here: 1.52 times the time"),
        (1.0, 1.02, "as fast as exact attention in this run"),
    ],
)
def test_a_slower_run_is_called_slower(exact: float, approximated: float, words: str) -> None:
    image = torch.zeros(1, 1, 2, 2)
    assert Comparison(image, image, 0.0, None, exact, approximated).pace == words
