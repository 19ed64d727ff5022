"""SiT against the released model and its published sizes."""

import pytest
import torch

from flowgression import InputError, SiT
from flowgression.families.sit.released import load_released
from tests.families.golden import Golden


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden("sit_dev")


@pytest.fixture(scope="module")
def released(golden: Golden) -> SiT:
    return load_released(golden.weights(), num_heads=4, num_classes=10)


def test_released_velocity(golden: Golden, released: SiT) -> None:
    out = released(golden["x"], golden["t"], golden["y"])
    torch.testing.assert_close(out.velocity, golden["v"], rtol=0, atol=5e-6)


def test_released_configuration(golden: Golden, released: SiT) -> None:
    for key, value in golden.json("config").items():
        assert released.config["sample_size" if key == "input_size" else key] == value, key


@pytest.mark.parametrize(("preset", "count"), [("S/2", 32_865_056), ("XL/2", 674_834_720)])
def test_parameter_counts(preset: str, count: int) -> None:
    # The 33M and 675M of the SiT paper, less its position table, which is fixed.
    with torch.device("meta"):
        model = SiT.from_preset(preset)
    assert sum(p.numel() for p in model.parameters()) == count


def test_number_of_heads_is_a_choice_that_matters(golden: Golden) -> None:
    other = load_released(golden.weights(), num_heads=2, num_classes=10)(golden["x"], golden["t"], golden["y"])
    assert (other.velocity - golden["v"]).abs().max() > 1e-4


def test_wrong_shapes(released: SiT, golden: Golden) -> None:
    with pytest.raises(InputError, match=r"x must be \[B, 4, 8, 8\]"):
        released(golden["x"][:, :3], golden["t"], golden["y"])
    with pytest.raises(InputError, match=r"t must be \[3\] and class_labels \[3\]"):
        released(golden["x"], golden["t"][:2], golden["y"])


def test_another_model_is_refused() -> None:
    with pytest.raises(InputError, match="not a released SiT checkpoint"):
        load_released(Golden("arflow_dev").weights())


@pytest.mark.parametrize("heads", [0, -1, 3])
def test_heads_that_cannot_be(golden: Golden, heads: int) -> None:
    with pytest.raises(InputError, match=f"not divisible by num_heads {heads}"):
        load_released(golden.weights(), num_heads=heads)


def test_heads_of_an_unpublished_width_are_asked_for(golden: Golden) -> None:
    with pytest.raises(InputError, match=r"no published SiT has.*num_heads=A, or --num-heads A"):
        load_released(golden.weights())
