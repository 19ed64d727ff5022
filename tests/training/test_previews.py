"""The curve and the grid."""

from pathlib import Path

import pytest
from PIL import Image

from flowgression.training.previews import plot_loss, smoothed


def test_smoothing_has_no_lag_and_keeps_straight_lines() -> None:
    assert smoothed([1.0, 2.0, 3.0, 4.0, 5.0], reach=2) == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert smoothed([0.0, 3.0, 0.0, 3.0], reach=1) == [0.0, 1.0, 2.0, 3.0]
    assert smoothed([2.0, 7.0], reach=0) == [2.0, 7.0]


@pytest.mark.parametrize("count", [0, 1, 200])
def test_the_curve_is_a_picture_for_any_number_of_lines(tmp_path: Path, count: int) -> None:
    lines = [{"step": step, "loss": 1 / step} for step in range(1, count + 1)]
    plot_loss([*lines, {"step": count, "held_out_loss": 0.5}], tmp_path / "loss.png")
    with Image.open(tmp_path / "loss.png") as image:
        assert image.size == (840, 480)
