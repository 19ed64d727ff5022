"""Time grids: points, steps, and refused input."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowgression import InputError
from flowgression.flow import given_times, sde_times, shifted_times, uniform_times


@given(n=st.integers(1, 300), shift=st.floats(0.1, 10))
def test_grids_rise_from_noise_to_data_in_n_steps(n, shift):
    for grid in (uniform_times(n), shifted_times(n, shift), sde_times(n, 0.0)):
        assert grid.shape == (n + 1,)
        assert grid[0] == 0
        assert grid[-1] == pytest.approx(1, abs=1e-6)
        assert (grid.diff() > 0).all()


@given(u=st.floats(0.01, 0.99), shift=st.floats(0.1, 10))
def test_shift_maps_the_noise_level_as_published(u, shift):
    t = 1 - u
    assert 1 - t / (shift - (shift - 1) * t) == pytest.approx(shift * u / (1 + (shift - 1) * u))
    torch.testing.assert_close(
        1 - shifted_times(10, shift, dtype=torch.float64),
        torch.tensor([shift * k / (10 + (shift - 1) * k) for k in range(10, -1, -1)], dtype=torch.float64),
    )


def test_shift_of_one_changes_nothing():
    assert torch.equal(shifted_times(7, 1.0), uniform_times(7))


def test_sde_grid_is_the_released_one():
    assert torch.equal(sde_times(250), torch.linspace(0, 1 - 0.04, 250))
    assert torch.equal(sde_times(5, 0.1, start=0.2), torch.linspace(0.2, 0.9, 5))


def test_given_grids_keep_their_values_and_dtype():
    assert given_times([0, 0.5, 1]).tolist() == [0, 0.5, 1]
    falling = torch.tensor([1.0, 0.3, 0.0], dtype=torch.float64)
    assert torch.equal(given_times(falling), falling)
    assert given_times(falling, dtype=torch.float32).dtype == torch.float32
    assert given_times([0, 1]).dtype == torch.float32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: uniform_times(0), "num_inference_steps must be an integer >= 1, not 0"),
        (lambda: uniform_times(2.5), "not 2.5"),
        (lambda: uniform_times(True), "not True"),
        (lambda: shifted_times(3, 0.0), "shift"),
        (lambda: shifted_times(3, float("inf")), "shift"),
        (lambda: sde_times(1), "at least 2"),
        (lambda: sde_times(10, 1.0), "last_step_size"),
        (lambda: sde_times(10, -0.1), "last_step_size"),
        (lambda: sde_times(10, 0.04, start=0.96), "start"),
        (lambda: given_times([0.5]), "at least two"),
        (lambda: given_times([[0.0, 1.0]]), "at least two"),
        (lambda: given_times([0.0, 0.5, 0.5]), "strictly rising"),
        (lambda: given_times([0.0, 0.7, 0.5]), "strictly rising"),
        (lambda: given_times([0.0, float("nan")]), "finite"),
        (lambda: given_times([0.0, 1.2]), r"\[0, 1.2\]"),
        (lambda: given_times(["a", "b"]), "list of numbers"),
        (lambda: given_times(None), "list of numbers"),
    ],
)
def test_wrong_input(make, message):
    with pytest.raises(InputError, match=message):
        make()
